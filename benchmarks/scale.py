"""What a number of pictures and of queries a second takes, computed from what was measured.

    python -m benchmarks.scale [--write]

The measured figures are read from docs/performance.md, so the table follows them. ``--write`` puts
it into docs/scale.md.
"""

import argparse
import math
import re
from typing import NamedTuple

from benchmarks.pages import DOCS, PERFORMANCE, write_between

PICTURES = (10**6, 10**8, 10**9)
QUERIES_A_SECOND = (10, 1_000, 10_000)
DIM = 512
REWRITTEN = 0.5  # share of the queries that the language model writes; the rest are kept or cached
BYTES_A_NUMBER = 2  # vectors are kept with 16 bits
RECORD_BYTES = 500  # of metadata: 20,000 records of the store take 10 MB
MACHINE_GB = 64  # memory of one data node that pictures may fill
CORES = 2  # that everything was measured with


class Measured(NamedTuple):
    """Figures of docs/performance.md, all on two CPU cores."""

    searches: float  # a second, of one `grape serve`, without rewriting, at 32 clients
    rewrites: float  # a second, of the demo's 0.27 B model, at 32 clients
    index_ms: float  # processor time of a search of a million pictures by the index alone
    encoded: float | None  # pictures a second that are read, decoded and encoded; None: not yet


class Need(NamedTuple):
    """What one row of the table says."""

    pictures: int
    queries: int  # a second
    memory_gb: float  # of the vectors and records
    data_nodes: int
    search_cores: int  # that scan vectors
    serve_processes: int  # `grape serve`, each with two cores
    rewriter_machines: int  # two cores each, with the demo's model
    index_days: float | None  # to encode all pictures on one machine of two cores


def measured(page: str) -> Measured:
    """Reads the tables of the page.

    Raises:
        AssertionError: a table is not as it was.
    """
    searches = _cell(page, r"\| /search never \| 32 \|", 3)
    rewrites = _cell(page, r"\| /rewrite \| 32 \|", 3)
    million = re.search(r"^\| 1,000,000 \| GRAPE: .*$", page, re.MULTILINE)
    assert million, "the table of large indexes has no row of a million"
    index_ms = float(million[0].split("|")[7])
    built = re.search(r"^\| \*\*the index built from files\*\* \| ([\d.]+) \|", page, re.MULTILINE)
    return Measured(searches, rewrites, index_ms, float(built[1]) if built else None)


def need(pictures: int, queries: int, figures: Measured) -> Need:
    """Scales what was measured, each part in proportion to what it depends on.

    An IVF index of n pictures has about 4 sqrt(n) cells, so a cell, which is what a search reads,
    grows with sqrt(n). Vectors and records grow with n. Serving and rewriting do not depend on n.
    """
    memory = pictures * (DIM * BYTES_A_NUMBER + RECORD_BYTES) / 1e9
    cell = math.sqrt(pictures / 1e6)
    return Need(
        pictures,
        queries,
        memory,
        max(math.ceil(memory / MACHINE_GB), 1),
        max(math.ceil(queries * figures.index_ms * cell / 1000), 1),
        max(math.ceil(queries / figures.searches), 1),
        max(math.ceil(queries * REWRITTEN / figures.rewrites), 1),
        pictures / figures.encoded / 86_400 if figures.encoded else None,
    )


def table(figures: Measured) -> str:
    """The table of docs/scale.md."""
    lines = [
        "| pictures | queries a second | memory of vectors and records, GB | data nodes of "
        f"{MACHINE_GB} GB | cores that search | `grape serve`, {CORES} cores each | demo's "
        f"language model, {CORES} cores each | days to encode, {CORES} cores |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for pictures in PICTURES:
        for queries in QUERIES_A_SECOND:
            row = need(pictures, queries, figures)
            lines.append(
                f"| {row.pictures:,} | {row.queries:,} | {row.memory_gb:,.1f} | {row.data_nodes:,} "
                f"| {row.search_cores:,} | {row.serve_processes:,} | {row.rewriter_machines:,} "
                f"| {_days(row.index_days)} |"
            )
    return "\n".join(lines)


def _days(days: float | None) -> str:
    if days is None:
        return "not measured"
    return f"{days:,.0f}" if days >= 10 else f"{days:.1f}"


def _cell(page: str, row: str, number: int) -> float:
    found = re.search(rf"^{row}(.*)$", page, re.MULTILINE)
    assert found, f"docs/performance.md has no row {row}"
    return float(found[1].split("|")[number - 1])


def sources(figures: Measured) -> str:
    """What was measured, with its source."""
    encoded = f"{figures.encoded:.1f}" if figures.encoded else "not measured yet"
    return "\n".join(
        (
            "| measured, on two cores | |",
            "|---|--:|",
            f"| searches a second of one `grape serve`, `rewrite: never`, 32 clients "
            f"| {figures.searches:.1f} |",
            f"| rewrites a second of the demo's language model, 32 clients "
            f"| {figures.rewrites:.1f} |",
            f"| a search of a million vectors by the index alone, ms of one core "
            f"| {figures.index_ms:.2f} |",
            f"| pictures a second that `grape index build` reads and encodes | {encoded} |",
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into docs/scale.md")
    figures = measured(PERFORMANCE.read_text())
    text = f"{sources(figures)}\n\n{table(figures)}"
    print(text)
    if parser.parse_args().write:
        write_between(DOCS / "scale.md", "scale", text)


if __name__ == "__main__":
    main()
