"""The served demo against its floors: the raw engine, and the raw encoder with its index.

    python -m benchmarks.serve        (or: make bench)

One run measures everything on the same machine: first the floors, in this process and without HTTP,
on the same texts; then the server, with 1, 8 and 32 clients that each wait for their answer. Times
are of this machine; the last column, the share of the floor's throughput, is what the project is
held to.
"""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import aiohttp
import numpy as np
import open_clip
import torch

from models.common import paths
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.rewriter.adapter import open_adapter
from models.rewriter.base_model import checkpoint_revision
from models.rewriter.protocol import Prompt, Sampling
from models.rewriter.tasks import choose_task
from models.rewriter.vllm import VLLMOptions, VLLMRewriter
from tests.support.grape_server import Server

CLIENTS = (1, 8, 32)
K = 10
LANGUAGES = ("de", "es", "zh", "ja", "ru")


class Load(NamedTuple):
    """Seconds of each answer, and of the whole."""

    latencies: list[float]
    seconds: float

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.latencies, share)) * 1000


async def closed_loop(
    ask: Callable[[str], Awaitable[object]], texts: Sequence[str], clients: int
) -> Load:
    """Every client asks, waits for its answer, and asks the next text that nobody has asked."""
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


def raw_search(texts: Sequence[str], index: ImageIndex, batch: int, ours: bool) -> Load:
    """Encoder and index without a service: open_clip as its documentation says, or ClipEncoder."""
    encoder = ClipEncoder(paths.ENCODER)
    model = open_clip.create_model(paths.ENCODER).eval()
    tokenize = open_clip.get_tokenizer(paths.ENCODER)

    def encode(chunk: Sequence[str]) -> np.ndarray:
        if ours:
            return encoder.encode_texts(chunk)
        with torch.inference_mode():
            return np.asarray(model.encode_text(tokenize(list(chunk)), normalize=True))

    index.search(encode(texts[:batch]), K)
    latencies = []
    began = time.perf_counter()
    for start in range(0, len(texts), batch):
        started = time.perf_counter()
        index.search(encode(texts[start : start + batch]), K)
        latencies += [time.perf_counter() - started] * len(texts[start : start + batch])
    return Load(latencies, time.perf_counter() - began)


async def raw_engine(texts: Sequence[str]) -> dict[int, Load]:
    """vLLM without HTTP, with the adapter and on the prompts that the server gives it."""
    base = paths.checkpoint_dir(paths.DEFAULT_LLM)
    adapter = open_adapter(paths.ADAPTER, checkpoint_revision(base))
    rewriter = VLLMRewriter(VLLMOptions(str(base)), adapter, paths.merged_dir())

    def written(text: str) -> Awaitable[object]:
        return rewriter.complete(Prompt(adapter.tasks[choose_task(text).name], text), Sampling())

    loads = {}
    await closed_loop(written, texts[:8], 1)
    for clients in CLIENTS:
        loads[clients] = await closed_loop(written, texts[: rewrites_for(clients)], clients)
    await rewriter.close()
    return loads


def rewrites_for(clients: int) -> int:
    """Enough for a steady state within half a minute."""
    return {1: 24, 8: 96, 32: 256}[clients]


def searches_for(clients: int) -> int:
    return {1: 400, 8: 1600, 32: 3200}[clients]


async def served(
    server: Server, path: str, texts: Sequence[str], clients: int, **body: object
) -> Load:
    connector = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(server.url, connector=connector) as session:

        async def ask(text: str) -> None:
            async with session.post(path, json={"query": text, **body}) as response:
                assert response.status == 200, await response.text()
                assert b'"fallback"' not in await response.read()

        await closed_loop(ask, texts[: 4 * clients], clients)
        return await closed_loop(ask, texts, clients)


def row(name: str, clients: int, load: Load, share: str) -> str:
    return (
        f"| {name} | {clients} | {load.percentile(50):.1f} | {load.percentile(95):.1f} "
        f"| {load.rate:.1f} | {share} |"
    )


async def main() -> None:
    encoder = ClipEncoder(paths.ENCODER)
    index = ImageIndex.open(paths.index_dir(), encoder.fingerprint)
    names = [record["names"][code] for record in index.metadata for code in LANGUAGES]
    names = [names[i] for i in np.random.default_rng(0).permutation(len(names))]
    queries = list(itertools.islice(itertools.cycle(names), max(map(searches_for, CLIENTS))))

    rows = [
        "| what | clients | p50 ms | p95 ms | per second | share of floor |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    floors: dict[int, Load] = {}
    for clients in CLIENTS:
        texts = queries[: searches_for(clients)]
        floors[clients] = raw_search(texts, index, clients, ours=False)
        rows.append(row("floor: open_clip + FAISS, batched", clients, floors[clients], "1"))
        mine = raw_search(texts, index, clients, ours=True)
        rows.append(
            row(
                "ClipEncoder + FAISS, batched",
                clients,
                mine,
                f"{mine.rate / floors[clients].rate:.2f}",
            )
        )
    engine = await raw_engine(names)
    rows += [row("floor: vLLM", clients, load, "1") for clients, load in engine.items()]

    server = Server(Path(tempfile.mkdtemp()) / "log", "--rewrite-cache", "0")
    try:
        server.wait_until_ready()
        for clients in CLIENTS:
            texts = queries[: searches_for(clients)]
            load = await served(server, "/search", texts, clients, rewrite="never", k=K)
            share = f"{load.rate / floors[clients].rate:.2f}"
            rows.append(row("/search never", clients, load, share))
        for path, body in (("/rewrite", {}), ("/search", {"rewrite": "always", "k": K})):
            for clients in CLIENTS:
                texts = names[: rewrites_for(clients)]
                load = await served(server, path, texts, clients, **body)
                share = f"{load.rate / engine[clients].rate:.2f}"
                rows.append(row(f"{path} {body.get('rewrite', '')}".strip(), clients, load, share))
    finally:
        server.stop()
    print("\n".join(rows))


if __name__ == "__main__":
    asyncio.run(main())
