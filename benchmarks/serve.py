"""The served demo against its floors: the bare engine, and the bare encoder with its index.

    python -m benchmarks.serve [--write]        (or: make bench)

One run measures everything on the same machine. The floors come first, in this process and without
HTTP, on the same texts; then the server, with 1, 8 and 32 clients that each wait for their answer.
Times depend on the machine. The project is held to the last column, the share of the floor's
throughput. ``--write`` puts the table into docs/performance.md.
"""

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import aiohttp
import numpy as np
import open_clip
import torch

from benchmarks.pages import PERFORMANCE, write_between
from models.common import paths
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.retriever.types import Vectors
from models.rewriter.adapter import open_adapter
from models.rewriter.base_model import checkpoint_revision
from models.rewriter.protocol import Prompt, Sampling
from models.rewriter.tasks import choose_task
from models.rewriter.vllm import VLLMOptions, VLLMRewriter
from tests.support.grape_server import Server

CLIENTS = (1, 8, 32)
K = 10
LANGUAGES = ("de", "es", "zh", "ja", "ru")
HEAD = (
    "| what | clients | p50 ms | p95 ms | per second | share of floor |",
    "|---|--:|--:|--:|--:|--:|",
)
# Enough for a steady state within half a minute, by number of clients.
REWRITES = {1: 24, 8: 96, 32: 256}
SEARCHES = {1: 400, 8: 1600, 32: 3200}

Encode = Callable[[Sequence[str]], Vectors]


class Load(NamedTuple):
    """Seconds of each answer, and of the whole run."""

    latencies: list[float]
    seconds: float

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds

    def percentile_ms(self, percent: float) -> float:
        return float(np.percentile(self.latencies, percent)) * 1000


class Texts(NamedTuple):
    """What is searched for: names in other languages, in random order."""

    names: list[str]

    def to_search(self, clients: int) -> list[str]:
        return list(itertools.islice(itertools.cycle(self.names), SEARCHES[clients]))

    def to_rewrite(self, clients: int) -> list[str]:
        return self.names[: REWRITES[clients]]


async def closed_loop(
    ask: Callable[[str], Awaitable[object]], texts: Sequence[str], clients: int
) -> Load:
    """Every client sends a text, waits for the answer, and takes the next one from the list."""
    waiting = iter(texts)
    latencies: list[float] = []

    async def client() -> None:
        for text in waiting:
            started = time.perf_counter()
            await ask(text)
            latencies.append(time.perf_counter() - started)

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return Load(latencies, time.perf_counter() - started)


def open_clip_encode() -> Encode:
    """open_clip as its documentation says."""
    model = open_clip.create_model(paths.ENCODER).eval()
    tokenize = open_clip.get_tokenizer(paths.ENCODER)

    def encode(texts: Sequence[str]) -> Vectors:
        with torch.inference_mode():
            vectors: Vectors = model.encode_text(tokenize(list(texts)), normalize=True).numpy()
            return vectors

    return encode


def search_in_batches(encode: Encode, index: ImageIndex, texts: Sequence[str], batch: int) -> Load:
    """Encoder and index without a service."""
    index.search(encode(texts[:batch]), K)  # warm-up
    latencies: list[float] = []
    began = time.perf_counter()
    for start in range(0, len(texts), batch):
        chunk = texts[start : start + batch]
        started = time.perf_counter()
        index.search(encode(chunk), K)
        latencies += [time.perf_counter() - started] * len(chunk)
    return Load(latencies, time.perf_counter() - began)


async def bare_engine(texts: Texts) -> dict[int, Load]:
    """vLLM without HTTP, with the adapter and the prompts that the server gives it, by clients."""
    base = paths.checkpoint_dir(paths.DEFAULT_LLM)
    adapter = open_adapter(paths.ADAPTER, checkpoint_revision(base))
    rewriter = VLLMRewriter(VLLMOptions(str(base)), adapter, paths.merged_dir())

    def write(text: str) -> Awaitable[object]:
        return rewriter.complete(Prompt(adapter.tasks[choose_task(text).name], text), Sampling())

    await closed_loop(write, texts.names[:8], 1)  # warm-up
    loads = {n: await closed_loop(write, texts.to_rewrite(n), n) for n in CLIENTS}
    await rewriter.close()
    return loads


async def served(
    server: Server, path: str, texts: Sequence[str], clients: int, body: Mapping[str, object]
) -> Load:
    connector = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(server.url, connector=connector) as session:

        async def ask(text: str) -> None:
            async with session.post(path, json={"query": text, **body}) as response:
                assert response.status == 200, await response.text()
                assert b'"fallback"' not in await response.read()

        await closed_loop(ask, texts[: 4 * clients], clients)  # warm-up
        return await closed_loop(ask, texts, clients)


def row(name: str, clients: int, load: Load, floor: Load | None = None) -> str:
    """One line of the table; without a floor the load is one."""
    share = f"{load.rate / floor.rate:.2f}" if floor else "1"
    times = f"{load.percentile_ms(50):.1f} | {load.percentile_ms(95):.1f}"
    return f"| {name} | {clients} | {times} | {load.rate:.1f} | {share} |"


async def table() -> str:
    """Measures everything: floors first, then the server."""
    encoder = ClipEncoder(paths.ENCODER)
    index = ImageIndex.open(paths.index_dir(), encoder.fingerprint)
    names = [record["names"][code] for record in index.metadata for code in LANGUAGES]
    texts = Texts([names[i] for i in np.random.default_rng(0).permutation(len(names))])

    rows = [*HEAD]
    searches: dict[int, Load] = {}
    for clients in CLIENTS:
        queries = texts.to_search(clients)
        floor = search_in_batches(open_clip_encode(), index, queries, clients)
        ours = search_in_batches(ClipEncoder(paths.ENCODER).encode_texts, index, queries, clients)
        searches[clients] = floor
        rows.append(row("floor: open_clip + FAISS, batched", clients, floor))
        rows.append(row("ClipEncoder + FAISS, batched", clients, ours, floor))
    engine = await bare_engine(texts)
    rows += [row("floor: vLLM", clients, load) for clients, load in engine.items()]

    server = Server(Path(tempfile.mkdtemp()) / "log", "--rewrite-cache", "0")
    try:
        server.wait_until_ready()
        rows += await served_rows(server, texts, searches, engine)
    finally:
        server.stop()
    return "\n".join(rows)


async def served_rows(
    server: Server, texts: Texts, searches: Mapping[int, Load], engine: Mapping[int, Load]
) -> list[str]:
    """The server's lines, each against its floor."""
    rows = []
    for clients in CLIENTS:
        body: dict[str, object] = {"rewrite": "never", "k": K}
        load = await served(server, "/search", texts.to_search(clients), clients, body)
        rows.append(row("/search never", clients, load, searches[clients]))
    rewriting: list[tuple[str, str, dict[str, object]]] = [
        ("/rewrite", "/rewrite", {}),
        ("/search always", "/search", {"rewrite": "always", "n": 1, "k": K}),
    ]
    for name, path, body in rewriting:
        for clients in CLIENTS:
            load = await served(server, path, texts.to_rewrite(clients), clients, body)
            rows.append(row(name, clients, load, engine[clients]))
    return rows


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write it to docs/performance.md")
    arguments = parser.parse_args()
    measured = asyncio.run(table())
    print(measured)
    if arguments.write:
        write_between(PERFORMANCE, "speed", measured)


if __name__ == "__main__":
    main()
