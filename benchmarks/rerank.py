"""What reranking gains, on the demo's test split.

    python -m benchmarks.rerank [--limit N] [--systems ...] [--rerank-adapter FOLDER]
        [--deeper 50 ...] [--write]

Recall of the first 20 hits in several orders: as the mixture finds them, and as each reranker puts
them; by likelihood also with more candidates. With ``--write`` the table goes into
docs/reranking.md. An interrupted run continues where it stopped. What reranking costs:
benchmarks/rerank_cost.py.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.pages import RERANKING, write_between
from models.common import paths
from models.search.options import CANDIDATES
from training.evaluation.queries import OTHER_LANGUAGES, SHORT_ENGLISH
from training.evaluation.results import ALL, Results
from training.evaluation.run import evaluate
from training.evaluation.settings import EvalSettings
from training.evaluation.statistics import Slice, estimate
from training.rewards.ranking import Floats

# What each system is called; the first one is what the others are compared with.
ORDERS = {
    "auto": "as found",
    "auto+rerank-listwise": "listwise, frozen model",
    "auto+rerank-group-frozen": "in groups, frozen model",
    "auto+rerank-frozen": "likelihood, frozen model",
    "auto+rerank": "likelihood",
}
BASELINE, RERANKED = "auto", "auto+rerank"
AS_FOUND = ORDERS[BASELINE]
# Data, slice, and what the slice is called.
ROWS = (
    ("demo", OTHER_LANGUAGES, "names in 13 languages"),
    ("demo-keywords", OTHER_LANGUAGES, "keywords in 13 languages"),
    ("demo", "task long", "English descriptions"),
    ("demo", SHORT_ENGLISH, "short plain English"),
)


class Measured(NamedTuple):
    """A data set."""

    results: Results
    ranks: dict[str, Floats]  # of the right picture, by order


def lines(found: dict[str, Measured]) -> Iterator[str]:
    """The table.

    Args:
        found: by data set.
    """
    yield "| queries | | R@1 | R@10 | R@1 beside as found |"
    yield "|---|---|--:|--:|--:|"
    for data, part, name in ROWS:
        results, ranks = found[data]
        where = _slice(results, part)
        first = (ranks[AS_FOUND] == 1).astype(float)
        for order, own in ranks.items():
            r1, r10 = (_interval(where, (own <= k).astype(float)) for k in (1, 10))
            beside = ""
            if order != AS_FOUND:
                gain = estimate(*where.values((own == 1) - first))
                beside = f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
            count = f"{len(where.positions):,} {name}" if order == AS_FOUND else ""
            yield f"| {count} | {order} | {r1} | {r10} | {beside} |"


def _slice(results: Results, name: str) -> Slice:
    positions = [n for n, query in enumerate(results.queries) if name in (ALL, *query.slices)]
    return Slice.of(positions)


def _interval(where: Slice, hit: Floats) -> str:
    found = estimate(*where.values(hit))
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def measured(data: str, arguments: argparse.Namespace) -> Measured:
    """The ranks in every order."""

    def results(systems: list[str], candidates: int) -> Results:
        return evaluate(
            EvalSettings(
                data=data,
                systems=systems,
                limit=arguments.limit,
                rerank_adapter=arguments.rerank_adapter,
                rerank_candidates=candidates,
                work=paths.cache_dir() / "eval",
            )
        )

    judge = "the reranker" if arguments.rerank_adapter else "the adapter that rewrites"
    shown = ORDERS | {RERANKED: f"{ORDERS[RERANKED]}, {judge}"}
    first = results(list(dict.fromkeys([BASELINE, *arguments.systems])), CANDIDATES)
    ranks = {shown[system.name]: np.array(system.ranks) for system in first.systems}
    for candidates in arguments.deeper:
        (system,) = results([RERANKED], candidates).systems
        ranks[f"{shown[RERANKED]}, {candidates} candidates"] = np.array(system.ranks)
    return Measured(first, ranks)


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, default=25, help="queries of each language and task")
    parser.add_argument("--systems", nargs="+", choices=ORDERS, default=list(ORDERS))
    parser.add_argument("--rerank-adapter", type=Path, help="of the likelihood; none by default")
    parser.add_argument(
        "--deeper", type=int, nargs="*", default=[], help="more candidates, for a line of their own"
    )
    parser.add_argument("--write", action="store_true", help="write the table into the page")
    arguments = parser.parse_args()
    found = {data: measured(data, arguments) for data in dict.fromkeys(data for data, *_ in ROWS)}
    table = "\n".join(lines(found))
    print(table)
    if arguments.write:
        write_between(RERANKING, "recall", table)


if __name__ == "__main__":
    main()
