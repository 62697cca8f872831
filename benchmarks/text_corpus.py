"""GRAPE in front of a corpus of texts: the gallery's English captions, found by MiniLM.

    python -m benchmarks.text_corpus [--limit N] [--write]

A document is a picture's English name with its other names. The queries are the demo's. The
encoder, all-MiniLM-L6-v2 of sentence-transformers, knows English; rewriter and reranker are the
shipped adapters, which were trained on another retriever. ``--write`` puts the tables into
docs/results.md.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.pages import RESULTS, write_between
from models.common import paths
from tests.support.text_corpus import corpus_index
from training.evaluation.queries import OTHER_LANGUAGES, SHORT_ENGLISH
from training.evaluation.report.tables import by_slice, comparisons
from training.evaluation.results import ALL, Results
from training.evaluation.run import evaluate
from training.evaluation.settings import EvalSettings
from training.evaluation.statistics import estimate
from training.rewards.ranking import Floats

RERANKED = ("auto", "auto+rerank")
SHOWN = [ALL, OTHER_LANGUAGES, SHORT_ENGLISH, "task long"]


def run(work: Path, limit: int | None) -> Results:
    """The default systems on the demo's test split."""
    return evaluate(
        EvalSettings(
            index=corpus_index(work / "corpus"),
            adapter=str(paths.ADAPTER),
            systems=["direct", "frozen", "tuned", *RERANKED],
            rerank_adapter=paths.RERANKER,
            limit=limit,
            work=work,
        )
    )


def as_markdown(results: Results) -> str:
    """R@10 by slice, one line for each comparison, and what reranking adds."""
    lines = [f"- {line}" for part in comparisons(results) for line in part.splitlines()]
    return "\n\n".join([by_slice(results, SHOWN), "\n".join(lines), "\n".join(reranking(results))])


def reranking(results: Results) -> Iterator[str]:
    """What the reranker makes of the first documents of `auto`."""
    found = {system.name: system for system in results.systems if system.name in RERANKED}
    yield "| | R@1 | R@10 | nDCG@10 |"
    yield "|---|---:|---:|---:|"
    for name, system in found.items():
        values = [system.metrics[ALL][metric] for metric in ("R@1", "R@10", "nDCG@10")]
        cells = [f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]" for value in values]
        yield f"| {name} | {' | '.join(cells)} |"
    before, after = (_gain(found[name].ranks) for name in RERANKED)
    gained = estimate(after - before)
    yield ""
    yield (
        "nDCG@10 of the first right document, paired: "
        f"{gained.value:+.3f} [{gained.low:+.3f}, {gained.high:+.3f}]."
    )


def _gain(ranks: Sequence[int]) -> Floats:
    """1 / log2(1 + rank) within the first ten: nDCG@10 where one document is right."""
    rank = np.array(ranks, float)
    return np.where(rank <= 10, 1 / np.log2(1 + rank), 0.0)


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, help="at most N queries of each language and task")
    work = paths.cache_dir() / "eval"
    parser.add_argument(
        "--work", type=Path, default=work, help="folder that keeps finished systems"
    )
    parser.add_argument("--write", action="store_true", help="write the table to docs/results.md")
    arguments = parser.parse_args()
    text = as_markdown(run(arguments.work, arguments.limit))
    print(text)
    if arguments.write:
        write_between(RESULTS, "text corpus", text)


if __name__ == "__main__":
    main()
