"""Traffic as people make it: plain English, repeats and other languages, one beside the other.

    python -m benchmarks.traffic

Of every two queries one is plain English, which needs no rewriting; one in five of all is a repeat;
the rest are names in 13 languages, each once.
"""

import asyncio
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import aiohttp
import numpy as np

from benchmarks.load import Load, closed_loop, processor_seconds
from tests.support.grape_server import Server
from training.data.demo.names_and_descriptions import demo_rows
from training.data.rows import Row

QUERIES = 400
REPEATS = 0.2
CLIENTS = 4
REWRITING = 16  # clients whose queries are rewritten, while plain English is timed
PLAIN = 400  # plain queries that are timed


class Spent(NamedTuple):
    """What a server needed for the mixed workload, and what it found."""

    seconds: float  # of processors, a query
    recall: float  # R@10


class Plain(NamedTuple):
    """Milliseconds of a plain English query."""

    alone_p50: float
    beside_p99: float  # while others have theirs rewritten


def mixed() -> list[Row]:
    """The mixed workload, shuffled."""
    rng = np.random.default_rng(0)
    repeats = int(QUERIES * REPEATS)
    half = QUERIES // 2
    english = _some(english_names(), half, rng)
    others = _some(other_names(), half - repeats, rng)
    chosen = [*english, *others]
    chosen += [others[place] for place in rng.integers(len(others), size=repeats)]
    return [chosen[place] for place in rng.permutation(len(chosen))]


def other_names() -> list[Row]:
    """Held-out names in other languages."""
    rows = [row for row in demo_rows() if row.split == "test" and row.task == "multilingual"]
    return [row for row in rows if row.language != "en"]


def english_names() -> list[Row]:
    """The English names of the same pictures."""
    named = {row.english: row for row in other_names() if row.english}
    return [row.model_copy(update={"query": name}) for name, row in named.items()]


def _some(rows: Sequence[Row], count: int, rng: np.random.Generator) -> list[Row]:
    return [rows[place] for place in rng.permutation(len(rows))[:count]]


async def spent(rows: Sequence[Row], rewrite: str, *flags: str) -> Spent:
    """Serves the workload, and counts processor time and the right pictures."""
    server = Server(Path(tempfile.mkdtemp()) / "log", *flags)
    try:
        server.wait_until_ready()
        async with aiohttp.ClientSession(server.url) as session:
            hits: list[bool] = []
            targets = {row.query: set(row.targets) for row in rows}

            async def ask(text: str) -> None:
                body = {"query": text, "rewrite": rewrite, "k": 10}
                async with session.post("/search", json=body) as response:
                    answer = json.loads(await response.read())
                hits.append(any(hit["id"] in targets.get(text, ()) for hit in answer["hits"]))

            warm = ["Wolkenkratzer", "a castle", "Zahnbürste", "a bus"] * 2
            await closed_loop(ask, warm, CLIENTS)
            hits.clear()
            before = processor_seconds(server)
            await closed_loop(ask, [row.query for row in rows], CLIENTS)
            seconds = processor_seconds(server) - before
        return Spent(seconds / len(rows), float(np.mean(hits)))
    finally:
        server.stop()


async def plain_english(server: Server) -> Plain:
    """A plain query's time alone, and while 16 clients have theirs rewritten."""
    english = [row.query for row in english_names()]
    others = iter([row.query for row in other_names()])
    texts = (english * (1 + PLAIN // len(english)))[:PLAIN]
    async with aiohttp.ClientSession(server.url) as session:

        async def ask(text: str) -> None:
            async with session.post("/search", json={"query": text}) as response:
                assert response.status == 200, await response.text()

        alone = await closed_loop(ask, texts, 1)
        finished = asyncio.Event()

        async def rewritten() -> None:
            while not finished.is_set():
                await ask(next(others))

        busy = [asyncio.create_task(rewritten()) for _ in range(REWRITING)]
        await asyncio.sleep(2)
        beside: Load = await closed_loop(ask, texts, 1)
        finished.set()
        await asyncio.gather(*busy)
    return Plain(alone.percentile_ms(50), beside.percentile_ms(99))


async def measure() -> tuple[Spent, Spent, Plain]:
    """As served by default, always rewritten without a cache, and plain English under load."""
    rows = mixed()
    default = await spent(rows, "auto")
    always = await spent(rows, "always", "--rewrite-cache", "0")
    server = Server(Path(tempfile.mkdtemp()) / "log", "--rewrite-cache", "0")
    try:
        server.wait_until_ready()
        return default, always, await plain_english(server)
    finally:
        server.stop()


if __name__ == "__main__":
    print(*asyncio.run(measure()), sep="\n")
