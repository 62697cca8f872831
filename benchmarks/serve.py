"""The served demo against its floors: the bare engine, and the bare encoder with its index.

    python -m benchmarks.serve [--rounds 2] [--write]

Floors have no HTTP: ClipEncoder with FAISS, in batches of as many texts as there are clients, and
vLLM as it comes, on the same prompts. Floor and server take turns on the same texts, and the
better of their rounds counts, so that other work on the machine hits both or neither. Times depend
on the machine: the last column, the share of the floor's throughput, does so less. ``--write`` puts
the table into docs/performance.md. `python -m benchmarks.bench` has all bars.
"""

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.load import Load, closed_loop, served
from benchmarks.pages import PERFORMANCE, write_between
from benchmarks.plain_vllm import PlainVLLM
from models.common import paths
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from tests.support.grape_server import Server

CLIENTS = (1, 8, 32, 128)
K = 10
LANGUAGES = ("de", "es", "zh", "ja", "ru")
# Enough for a steady state within half a minute, by number of clients.
REWRITES = {1: 24, 8: 96, 32: 256, 128: 512}
SEARCHES = {1: 400, 8: 1600, 32: 3200, 128: 3200}
SEARCH_FLOOR, SEARCH = "floor: ClipEncoder + FAISS, batched", "/search never"
ENGINE, REWRITE = "floor: vLLM", "/rewrite"
ALWAYS = "/search always"
FLOORS = {SEARCH: SEARCH_FLOOR, REWRITE: ENGINE, ALWAYS: ENGINE}
HEAD = (
    "| what | clients | p50 ms | p95 ms | per second | share of floor |",
    "|---|--:|--:|--:|--:|--:|",
)

Loads = dict[tuple[str, int], Load]  # by what was asked, and the number of clients


class Texts(NamedTuple):
    """What is searched for: names in other languages, in random order."""

    names: list[str]

    def to_search(self, clients: int) -> list[str]:
        return list(itertools.islice(itertools.cycle(self.names), SEARCHES[clients]))

    def to_rewrite(self, clients: int) -> list[str]:
        return self.names[: REWRITES[clients]]


class SearchFloor:
    """Encoder and index without a service."""

    def __init__(self) -> None:
        self._encoder = ClipEncoder(paths.ENCODER)
        self._index = ImageIndex.open(paths.index_dir(), self._encoder.fingerprint)
        names = [record["names"][code] for record in self._index.metadata for code in LANGUAGES]
        self.texts = Texts([names[i] for i in np.random.default_rng(0).permutation(len(names))])

    def load(self, clients: int) -> Load:
        """In batches of as many texts as there are clients."""
        texts = self.texts.to_search(clients)
        self._index.search(self._encoder.encode_texts(texts[:clients]), K)  # warm-up
        latencies: list[float] = []
        began = time.perf_counter()
        for start in range(0, len(texts), clients):
            chunk = texts[start : start + clients]
            started = time.perf_counter()
            self._index.search(self._encoder.encode_texts(chunk), K)
            latencies += [time.perf_counter() - started] * len(chunk)
        return Load(latencies, time.perf_counter() - began)


class Bench:
    """The floors in this process, and a server beside them."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.searches = SearchFloor()
        self.texts = self.searches.texts
        self._engine = PlainVLLM()

    def close(self) -> None:
        self._engine.close()

    async def rewrites(self, clients: int) -> Load:
        """vLLM without HTTP, with the prompts that the server gives it."""
        await closed_loop(self._engine.write, self.texts.names[:8], 1)  # warm-up
        return await closed_loop(self._engine.write, self.texts.to_rewrite(clients), clients)

    async def round(self, clients: int) -> dict[str, Load]:
        """Each floor, followed by what it is the floor of."""
        typed, rewritten = self.texts.to_search(clients), self.texts.to_rewrite(clients)
        never = {"rewrite": "never", "k": K}
        always = {"rewrite": "always", "n": 1, "k": K}
        return {
            SEARCH_FLOOR: self.searches.load(clients),
            SEARCH: await served(self.server, "/search", typed, clients, never),
            ENGINE: await self.rewrites(clients),
            REWRITE: await served(self.server, "/rewrite", rewritten, clients, {}),
            ALWAYS: await served(self.server, "/search", rewritten, clients, always),
        }


async def measure(rounds: int, tell: Callable[[str], None] = print) -> Loads:
    """Every load, the best of its rounds."""
    server = Server(Path(tempfile.mkdtemp()) / "log", "--rewrite-cache", "0")
    loads: Loads = {}
    try:
        server.wait_until_ready()
        bench = Bench(server)
        for clients in CLIENTS:
            found = [await bench.round(clients) for _ in range(rounds)]
            for name in found[0]:
                loads[name, clients] = max((one[name] for one in found), key=lambda one: one.rate)
                tell(row(name, clients, loads))
        bench.close()
    finally:
        server.stop()
    return loads


def share(loads: Loads, name: str, clients: int) -> float:
    """Of the floor's throughput."""
    return loads[name, clients].rate / loads[FLOORS[name], clients].rate


def row(name: str, clients: int, loads: Loads) -> str:
    """One line of the table; a floor's share is 1."""
    load = loads[name, clients]
    told = f"{share(loads, name, clients):.2f}" if name in FLOORS else "1"
    times = f"{load.percentile_ms(50):.1f} | {load.percentile_ms(95):.1f}"
    return f"| {name} | {clients} | {times} | {load.rate:.1f} | {told} |"


def table(loads: Loads) -> str:
    """All loads, by what was asked."""
    names = dict.fromkeys(name for name, _ in loads)
    numbers = dict.fromkeys(clients for _, clients in loads)
    return "\n".join([*HEAD, *(row(name, n, loads) for name in names for n in numbers)])


def encoded_beside_open_clip(texts: Sequence[str], batch: int) -> float:
    """How many times as many texts our encoder encodes as open_clip used as it documents."""
    import open_clip
    import torch

    ours = ClipEncoder(paths.ENCODER)
    model = open_clip.create_model(paths.ENCODER).eval()
    tokenize = open_clip.get_tokenizer(paths.ENCODER)

    def theirs(chunk: list[str]) -> None:
        with torch.inference_mode():
            model.encode_text(tokenize(chunk), normalize=True).numpy()

    def seconds(encode: Callable[[list[str]], object]) -> float:
        encode(list(texts[:batch]))
        began = time.perf_counter()
        for start in range(0, len(texts) - batch + 1, batch):
            encode(list(texts[start : start + batch]))
        return time.perf_counter() - began

    pairs = [(seconds(theirs), seconds(ours.encode_texts)) for _ in range(3)]
    return float(np.median([plain / own for plain, own in pairs]))


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="write it to docs/performance.md")
    arguments = parser.parse_args()
    loads = asyncio.run(measure(arguments.rounds))
    if arguments.write:
        write_between(PERFORMANCE, "speed", table(loads))


if __name__ == "__main__":
    main()
