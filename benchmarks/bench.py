"""All of GRAPE's speed in one run, as ratios, each beside the bar that it is held to.

    python -m benchmarks.bench [--write] [--noisy]        (or: make bench)

A ratio means something only if nothing else runs. So nothing is measured on a busy machine, and no
ratio is printed if a floor that is measured first and last differs by more than a tenth. What got
slower since benchmarks/bench.json is named. ``--write`` replaces that file, and the tables in
docs/performance.md; ``--noisy`` measures whatever else runs, and writes nothing.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks import serve, start, traffic
from benchmarks.load import Load, served
from benchmarks.pages import PERFORMANCE, write_between
from benchmarks.serve import ENGINE, REWRITE, SEARCH, SEARCH_FLOOR, Loads
from tests.support.grape_server import Server

KEPT = Path(__file__).with_name("bench.json")
LOOKED_S = 5.0  # for which other programs are watched
BUSY = 15.0  # percent of all cores that they may use
FLOOR_ROUNDS = 10
DIFFERS = 0.1
SLOWER = 0.1  # worse than before by this share is named
BATCHES = (1, 8, 64)


class Figure(NamedTuple):
    """One line of the table."""

    what: str
    value: float
    bar: float
    at_least: bool  # whether the bar is a floor; otherwise a ceiling
    unit: str = ""

    @property
    def holds(self) -> bool:
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    def row(self) -> str:
        sign = "at least" if self.at_least else "at most"
        kept = "yes" if self.holds else "**no**"
        return f"| {self.what} | {self.value:.2f}{self.unit} | {sign} {self.bar:g} | {kept} |"


def of_service(loads: Loads) -> list[Figure]:
    """The service beside its floors."""
    floors = {
        REWRITE: ("share of vLLM's own throughput", 0.95),
        SEARCH: ("share of ClipEncoder + FAISS in batches", 0.9),
    }
    found = [
        Figure(f"`{name}`, {clients} clients: {what}", serve.share(loads, name, clients), bar, True)
        for name, (what, bar) in floors.items()
        for clients in serve.CLIENTS[1:]
    ]
    for name, floor, bar in ((SEARCH, SEARCH_FLOOR, 1.5), (REWRITE, ENGINE, 3.0)):
        added = loads[name, 1].percentile_ms(50) - loads[floor, 1].percentile_ms(50)
        found.append(
            Figure(f"`{name}`, one client: added to the floor's p50", added, bar, False, " ms")
        )
    return found


async def of_mixture(server: Server) -> list[Figure]:
    """Several rewrites beside one greedy one."""
    names = serve.SearchFloor().texts

    async def asked(n: int | str, clients: int) -> Load:
        texts = names.to_rewrite(clients)
        body = {"rewrite": "always", "n": n, "k": serve.K}
        return await served(server, "/search", texts, clients, body)

    pairs = [(await asked("auto", n), await asked(1, n)) for n in (1, 8)]
    (one, one_greedy), (eight, eight_greedy) = pairs
    slower = one.percentile_ms(50) / one_greedy.percentile_ms(50)
    return [
        Figure("the mixture, 8 clients: answers a second, share of greedy rewriting",
               eight.rate / eight_greedy.rate, 0.5, True),
        Figure("the mixture, one client: p50, times that of greedy rewriting", slower, 2.0, False),
    ]  # fmt: skip


async def of_traffic() -> list[Figure]:
    """Mixed queries, and plain English beside others."""
    default, always, plain = await traffic.measure()
    return [
        Figure("mixed queries: processor time, share of always rewriting without a cache",
               default.seconds / always.seconds, 0.6, False),
        Figure("mixed queries: R@10 beside always rewriting", default.recall - always.recall,
               0.0, True),
        Figure("plain English while 16 clients have theirs rewritten: p99, times its p50 alone",
               plain.beside_p99 / plain.alone_p50, 5.0, False),
    ]  # fmt: skip


def of_encoder(texts: list[str]) -> list[Figure]:
    return [
        Figure(f"ClipEncoder, batches of {batch}: times the texts a second of open_clip",
               serve.encoded_beside_open_clip(texts, batch), 1.5, True)
        for batch in BATCHES
    ]  # fmt: skip


def of_starts(starts: start.Starts) -> list[Figure]:
    parts = starts.engine.gib + starts.encoder.gib
    return [
        Figure("`grape serve` to the first answer as typed", starts.demo.as_typed_s, 2.0, False,
               " s"),
        Figure("to the first rewritten one, times the start of vLLM alone",
               starts.demo.rewritten_s / starts.engine.seconds, 1.2, False),
        Figure("memory of the demo, times that of engine and encoder alone",
               starts.demo.gib / parts, 1.15, False),
    ]  # fmt: skip


async def measure() -> tuple[Loads, list[Figure]]:
    """Everything. The starts come first, because an engine in this process takes memory."""
    found = of_starts(start.measure())
    loads = await serve.measure(rounds=2)
    names = [row.query for row in traffic.other_names()[:1024]]
    found = [*of_service(loads), *of_encoder(names), *found]
    server = Server(Path(tempfile.mkdtemp()) / "log", "--rewrite-cache", "0")
    try:
        server.wait_until_ready()
        found += await of_mixture(server)
    finally:
        server.stop()
    return loads, [*found, *await of_traffic()]


def floor_rate() -> float:
    """Texts a second of the floor that is measured first and last; one round is too short."""
    floor = serve.SearchFloor()
    return max(floor.load(8).rate for _ in range(FLOOR_ROUNDS))


def slower_than(before: dict[str, float], now: list[Figure]) -> list[str]:
    """What is worse than before by more than a tenth."""
    told = []
    for figure in now:
        then = before.get(figure.what)
        if then and (then - figure.value) * (1 if figure.at_least else -1) > SLOWER * abs(then):
            told.append(f"worse: {figure.what}: {then:.2f} before, {figure.value:.2f} now")
    return told


def main() -> int:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="keep the figures, and in the docs")
    parser.add_argument("--noisy", action="store_true", help="measure whatever else runs")
    arguments = parser.parse_args()
    busy = psutil.cpu_percent(LOOKED_S)
    if busy > BUSY and not arguments.noisy:
        print(f"Other programs use {busy:.0f} % of this machine: end them first.", file=sys.stderr)
        return 1
    first = floor_rate()
    loads, figures = asyncio.run(measure())
    last = floor_rate()
    differs = abs(first / last - 1)
    if differs > DIFFERS and not arguments.noisy:
        print(f"The same floor was {first:.0f} and {last:.0f} texts a second: the machine was not "
              "quiet, so no ratio means anything. Measure again.", file=sys.stderr)  # fmt: skip
        return 1
    rows = "\n".join(["| what | measured | bar | held |", "|---|--:|--:|---|",
                      *(figure.row() for figure in figures)])  # fmt: skip
    print(rows)
    if KEPT.is_file():
        print(*slower_than(json.loads(KEPT.read_text()), figures), sep="\n")
    if arguments.write and not arguments.noisy:
        kept = {figure.what: round(figure.value, 4) for figure in figures}
        KEPT.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
        write_between(PERFORMANCE, "speed", serve.table(loads))
        write_between(PERFORMANCE, "bars", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
