"""What more rewrites gain, and what they cost: R@10 against time, served with the demo.

    python -m benchmarks.mixture [--write]

One run starts a server without a cache of rewrites and asks it for held-out queries (names in 13
languages and English descriptions), searched with 1 to 16 rewrites and with ``n: auto``, by 1, 8
and 32 clients that each wait for their answer. One client asks for each query with every number of
rewrites in turn. ``--write`` puts the table and the plot into docs/mixture.md and docs/mixture.png.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import aiohttp
import numpy as np

from benchmarks.load import Load, closed_loop
from benchmarks.pages import DOCS, MIXTURE, write_between
from tests.support.grape_server import Server
from training.data.demo.names_and_descriptions import demo_rows
from training.data.rows import Row

CLIENTS = (1, 8, 32)
COUNTS: tuple[int | str, ...] = (1, 2, 4, 8, 16, "auto")
QUERIES = 320  # enough for R@10 within five points
TIMED = {1: 100, 8: 160, 32: QUERIES}  # of them, where recall is known from another run
PLOT = DOCS / "mixture.png"
HEAD = (
    "| rewrites | clients | p50 ms | p95 ms | queries per second | rewrites found | R@10 |",
    "|---|--:|--:|--:|--:|--:|--:|",
)


class Cell(NamedTuple):
    """One number of rewrites, asked for by a number of clients."""

    n: int | str
    clients: int
    load: Load
    found: float  # rewrites per query, mean
    recall: float  # R@10


def queries() -> list[Row]:
    """Held-out names and descriptions, shuffled, each text once."""
    rows = [row for row in demo_rows() if row.split == "test"]
    order = np.random.default_rng(0).permutation(len(rows))[:QUERIES]
    return list({rows[place].query: rows[place] for place in order}.values())


class Asking:
    """Searches with one number of rewrites, and what they found."""

    def __init__(self, session: aiohttp.ClientSession, rows: Sequence[Row], n: int | str) -> None:
        self.n = n
        self._session = session
        self._by_query = {row.query: row for row in rows}
        self._hits: list[bool] = []
        self._counts: list[int] = []

    async def ask(self, text: str) -> None:
        """Asks for one query."""
        body = {"query": text, "rewrite": "always", "n": self.n, "k": 10}
        async with self._session.post("/search", json=body) as response:
            answer = json.loads(await response.read())
            assert response.status == 200, answer
        found = {hit["id"] for hit in answer["hits"]}
        self._hits.append(not found.isdisjoint(self._by_query[text].targets))
        self._counts.append(len(answer["rewrite"]["probabilities"]))

    def cell(self, clients: int, load: Load) -> Cell:
        """What was measured."""
        found, recall = float(np.mean(self._counts)), float(np.mean(self._hits))
        return Cell(self.n, clients, load, found, recall)


async def cell(server: Server, rows: Sequence[Row], n: int | str, clients: int) -> Cell:
    """Asks for each query once."""
    async with aiohttp.ClientSession(server.url) as session:
        asking = Asking(session, rows, n)
        load = await closed_loop(asking.ask, [row.query for row in rows], clients)
    return asking.cell(clients, load)


async def in_turn(server: Server, rows: Sequence[Row]) -> list[Cell]:
    """One client asks for each query with every number of rewrites before it asks the next one.

    What else the machine does then slows all of them alike.
    """
    latencies: dict[int | str, list[float]] = {n: [] for n in COUNTS}
    async with aiohttp.ClientSession(server.url) as session:
        asking = [Asking(session, rows, n) for n in COUNTS]
        for row in rows:
            for own in asking:
                started = time.perf_counter()
                await own.ask(row.query)
                latencies[own.n].append(time.perf_counter() - started)
    return [own.cell(1, Load(latencies[own.n], sum(latencies[own.n]))) for own in asking]


async def measure() -> list[Cell]:
    """Every number of rewrites with every number of clients; R@10 on all queries."""
    rows = queries()
    log = Path(tempfile.mkdtemp()) / "log"
    # No client is sent away: 32 of them with 16 rewrites are 512.
    server = Server(log, "--rewrite-cache", "0", "--max-in-flight", "1024")
    cells: list[Cell] = []
    try:
        server.wait_until_ready()
        await cell(server, rows[:32], "auto", 8)  # warm-up
        alone = {one.n: one for one in await in_turn(server, rows[: TIMED[1]])}
        for n in COUNTS:
            for clients in reversed(CLIENTS):
                # Recall depends on the load with `auto` alone.
                if n == "auto":
                    measured = await cell(server, rows, n, clients)
                elif clients == 1:
                    measured = alone[n]
                else:
                    measured = await cell(server, rows[: TIMED[clients]], n, clients)
                if clients == 1:
                    measured = measured._replace(load=alone[n].load)
                if n != "auto" and clients != max(CLIENTS):
                    measured = measured._replace(recall=cells[-1].recall)
                cells.append(measured)
                print(line(measured), flush=True)
    finally:
        server.stop()
    return cells


def line(measured: Cell) -> str:
    """One line of the table."""
    load = measured.load
    times = f"{load.percentile_ms(50):.0f} | {load.percentile_ms(95):.0f} | {load.rate:.1f}"
    return (
        f"| {measured.n} | {measured.clients} | {times} | {measured.found:.1f} "
        f"| {measured.recall:.3f} |"
    )


def plot(cells: Sequence[Cell]) -> None:
    """R@10 against latency and against queries per second, one line for each number of clients."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for clients in CLIENTS:
        own = [measured for measured in cells if measured.clients == clients]
        fixed = [measured for measured in own if measured.n != "auto"]
        (auto,) = (measured for measured in own if measured.n == "auto")
        for axes, at in ((left, _latency), (right, _rate)):
            (drawn,) = axes.plot(
                [at(measured) for measured in fixed],
                [measured.recall for measured in fixed],
                marker="o",
                label=f"{clients} client" + "s" * (clients > 1),
            )
            axes.plot([at(auto)], [auto.recall], "*", markersize=14, color=drawn.get_color())
            for measured in fixed:
                axes.annotate(
                    str(measured.n),
                    (at(measured), measured.recall),
                    textcoords="offset points",
                    xytext=(4, -11),
                    fontsize=7,
                )
    left.set(xlabel="median latency, ms", ylabel="R@10", xscale="log")
    right.set(xlabel="queries per second", xscale="log")
    for axes in (left, right):
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(ticker.NullLocator())
    left.legend(title="star: n auto", fontsize=8, title_fontsize=8)
    figure.tight_layout()
    figure.savefig(PLOT, dpi=130)


def _latency(measured: Cell) -> float:
    return measured.load.percentile_ms(50)


def _rate(measured: Cell) -> float:
    return measured.load.rate


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write table and plot into docs/")
    arguments = parser.parse_args()
    cells = asyncio.run(measure())
    if arguments.write:
        write_between(MIXTURE, "curve", "\n".join([*HEAD, *map(line, cells)]))
        plot(cells)


if __name__ == "__main__":
    main()
