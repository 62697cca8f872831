"""`/search` of GRAPE and a peer that answers the same queries, in turns on the same cores."""

import asyncio
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import aiohttp

from benchmarks.load import Load
from benchmarks.peers.programs import Asked
from benchmarks.peers.shared import CHECKED_TEXTS, K, Shared
from tests.support.grape_server import Server

CLIENTS = (1, 8, 32)
QUERIES = 300
WARM_UP = 4  # queries of each client before the clock starts
HEAD = (
    "| `/search` beside | clients | GRAPE per second | it per second | times | bar "
    "| GRAPE p95 ms | its p95 ms | held |",
    "|---|--:|--:|--:|--:|--:|--:|--:|---|",
)
# Times the answers a second of the peer, by number of clients. The p95 has to be below its own.
BARS = {
    "infinity": {1: 1.5, 8: 2.5, 32: 2.5},
    "clip-retrieval": {1: 3.0, 8: 6.0, 32: 12.0},
}


class Turn(NamedTuple):
    """Both with the same queries, one after the other."""

    ours: Load
    theirs: Load

    @property
    def times(self) -> float:
        return self.ours.rate / self.theirs.rate


@contextmanager
def grape(shared: Shared) -> Iterator[Asked]:
    """`grape serve` without a language model."""
    flags = ["--index", str(shared.index), "--llm", "none", "--rewrite", "never"]
    server = Server(shared.folder / "grape.log", *flags)
    try:
        server.wait_until_ready()
        yield Asked("GRAPE", server.url, _ask)
    finally:
        server.stop()


async def _ask(session: aiohttp.ClientSession, text: str) -> list[str]:
    body = {"query": text, "rewrite": "never", "k": K}
    async with session.post("/search", json=body) as response:
        response.raise_for_status()
        return [hit["id"] for hit in (await response.json())["hits"]]


def rows(shared: Shared, ours: Asked, theirs: Asked, rounds: int, count: int) -> Iterator[str]:
    """A row for each number of clients.

    Raises:
        PeerError: one of them does not find what is nearest.
    """
    texts = shared.queries(CHECKED_TEXTS)
    for one in (ours, theirs):
        shared.require_same_hits(one.name, texts, asyncio.run(one.answers(texts)))
    for clients in CLIENTS:
        each = WARM_UP * clients + count
        yield row(ours, theirs, clients, [shared.queries(each) for _ in range(rounds)])


def row(ours: Asked, theirs: Asked, clients: int, texts: Sequence[Sequence[str]]) -> str:
    """Asks them in turns.

    Args:
        texts: of each round; the first ones warm up.
    """
    turns = []
    for asked in texts:
        warm_up, timed = asked[: WARM_UP * clients], asked[WARM_UP * clients :]
        loads = [asyncio.run(one.load(warm_up, timed, clients)) for one in (ours, theirs)]
        turns.append(Turn(*loads))
    return told(theirs.name, clients, turns)


def told(name: str, clients: int, turns: list[Turn]) -> str:
    """The medians of the rounds, and whether the bar holds."""
    middle = statistics.median
    times = middle(turn.times for turn in turns)
    rates = middle(turn.ours.rate for turn in turns), middle(turn.theirs.rate for turn in turns)
    late = [middle(turn.ours.percentile_ms(95) for turn in turns)]
    late += [middle(turn.theirs.percentile_ms(95) for turn in turns)]
    bar = BARS.get(name, {}).get(clients)
    held = "" if bar is None else "yes" if times >= bar and late[0] < late[1] else "**no**"
    return (
        f"| {name} | {clients} | {rates[0]:.1f} | {rates[1]:.1f} | {times:.2f} "
        f"| {'' if bar is None else f'{bar:g}'} | {late[0]:.1f} | {late[1]:.1f} | {held} |"
    )
