"""What a query costs with more clients, with more pictures, and with longer texts.

    python -m benchmarks.curves [--write]

One run asks the served demo with 1 to 256 clients and with texts of 1 to 512 words; then servers
without a language model, each with a gallery of made-up vectors, of 1,000 to a million. Every
client waits for its answer. ``--write`` puts the tables into docs/performance.md, and the plot into
docs/curves.png.
"""

import argparse
import asyncio
import itertools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.index import pictures
from benchmarks.load import in_own_process, processor_seconds, served
from benchmarks.pages import DOCS, PERFORMANCE, write_between
from benchmarks.traffic import other_names
from models.common import paths
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.retriever.manifest import IndexOptions
from tests.support.grape_server import Server
from training.data.demo.names_and_descriptions import demo_rows

CLIENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
GALLERIES = (1_000, 10_000, 100_000, 1_000_000)
WORDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
ROUNDS = 30  # queries of each client
LONG = 20  # texts of each length
PLOT = DOCS / "curves.png"
NEVER = ("/search", {"rewrite": "never", "k": 10})
REWRITE = ("/rewrite", {"n": 1})
SHOWN = {"/search": "as typed", "/rewrite": "one rewrite"}


class Point(NamedTuple):
    """One point of a curve."""

    asked: str  # path
    at: int  # clients, pictures or words
    rate: float  # answers a second
    p50_ms: float
    processor_ms: float  # of the server and its engine, for one query

    def row(self) -> str:
        """One line of a table."""
        return (
            f"| {SHOWN[self.asked]} | {self.at:,} | {self.rate:.1f} | {self.p50_ms:.1f} "
            f"| {self.processor_ms:.1f} |"
        )


async def point(
    server: Server,
    asked: tuple[str, Mapping[str, object]],
    texts: Sequence[str],
    clients: int,
    at: int,
) -> Point:
    """Asks for every text once."""
    path, body = asked
    before = processor_seconds(server)
    load = await served(server, path, texts, clients, body)
    # The warm-up is a part of what was spent.
    count = len(texts) + len(texts[: 4 * clients])
    spent = (processor_seconds(server) - before) / count
    return Point(path, at, load.rate, load.percentile_ms(50), 1000 * spent)


async def of_the_demo() -> tuple[list[Point], list[Point]]:
    """By clients, and by words."""
    flags = ("--rewrite-cache", "0", "--max-in-flight", "1024", "--rewrite-timeout-s", "60")
    server = Server(Path(tempfile.mkdtemp()) / "log", *flags)
    names = _names()
    try:
        server.wait_until_ready()
        by_clients = []
        for clients in CLIENTS:
            typed = list(itertools.islice(itertools.cycle(names), max(200, ROUNDS * clients)))
            by_clients.append(await point(server, NEVER, typed, clients, clients))
            written = names[: max(32, 4 * clients)]
            by_clients.append(await point(server, REWRITE, written, clients, clients))
        by_words = [
            await point(server, asked, texts_of(words), 1, words)
            for words in WORDS
            for asked in (NEVER, REWRITE)
        ]
    finally:
        server.stop()
    return by_clients, by_words


def _names() -> list[str]:
    """Held-out names of letters alone: for the others the model may write nothing usable."""
    return [row.query for row in other_names() if row.query.replace(" ", "").isalpha()]


def texts_of(words: int) -> list[str]:
    """English of so many words, put together from descriptions; no two begin alike."""
    english = [row for row in demo_rows() if row.task == "long" and row.language == "en"]
    told = [word for row in english for word in row.query.split()]
    starts = range(0, LONG * 17, 17)
    return [" ".join(told[start : start + words]) for start in starts]


def build_gallery(folder: Path, count: int) -> None:
    """An index of made-up vectors that the demo's encoder can search."""
    fingerprint = ClipEncoder(paths.ENCODER).fingerprint
    vectors = pictures(count, fingerprint.dim)
    ids = [f"{number}.jpg" for number in range(count)]
    records: list[dict[str, object]] = [{"caption": f"picture {number}"} for number in range(count)]
    ImageIndex.build(vectors, ids, records, fingerprint, IndexOptions("auto")).save(folder)


async def of_galleries() -> list[Point]:
    """By pictures, one client."""
    names = _names()[:300]
    found = []
    for count in GALLERIES:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "index"
            in_own_process(build_gallery, folder, count)
            server = Server(Path(temporary) / "log", "--index", str(folder), "--llm", "none")
            try:
                server.wait_until_ready()
                found.append(await point(server, NEVER, names, 1, count))
            finally:
                server.stop()
    return found


def table(what: str, points: Sequence[Point]) -> str:
    """A table of one curve."""
    head = f"| | {what} | answers a second | p50 ms | processor ms a query |"
    return "\n".join([head, "|---|--:|--:|--:|--:|", *(one.row() for one in points)])


def plot(by_clients: list[Point], by_pictures: list[Point], by_words: list[Point]) -> None:
    """Three curves: answers a second against clients, p50 against pictures and against words."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.4))
    for (path, shown), color in zip(SHOWN.items(), ("tab:blue", "tab:red"), strict=True):
        for panel, points, rates in zip(
            axes, (by_clients, by_pictures, by_words), (True, False, False), strict=True
        ):
            own = [one for one in points if one.asked == path]
            values = [one.rate if rates else one.p50_ms for one in own]
            panel.plot([one.at for one in own], values, "o-", color=color, label=shown)
    axes[0].set(xlabel="clients", ylabel="answers a second", yscale="log")
    axes[1].set(xlabel="pictures", ylabel="p50 of one client, ms", ylim=(0, None))
    axes[2].set(xlabel="words of the query", ylabel="p50 of one client, ms", yscale="log")
    for panel in (axes[0], axes[2]):
        panel.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    for panel in axes:
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
        panel.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(PLOT, dpi=130)


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write tables and plot into docs/")
    arguments = parser.parse_args()
    by_clients, by_words = asyncio.run(of_the_demo())
    by_pictures = asyncio.run(of_galleries())
    curves = {"clients": by_clients, "pictures": by_pictures, "words": by_words}
    for what, points in curves.items():
        print(table(what, points), end="\n\n")
        if arguments.write:
            write_between(PERFORMANCE, f"by {what}", table(what, points))
    if arguments.write:
        plot(by_clients, by_pictures, by_words)


if __name__ == "__main__":
    main()
