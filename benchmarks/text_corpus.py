"""GRAPE in front of a corpus of texts: the gallery's English captions, found by MiniLM.

    python -m benchmarks.text_corpus [--limit N] [--write]

A document is a picture's English name with its other names. The queries are the demo's. The
encoder, all-MiniLM-L6-v2 of sentence-transformers, knows English; the rewriter is the shipped
adapter, which was trained on another retriever. ``--write`` puts the table into docs/results.md.
"""

import argparse
from pathlib import Path

from benchmarks.pages import RESULTS, write_between
from models.common import paths
from tests.support.text_corpus import corpus_index
from training.evaluation.queries import OTHER_LANGUAGES, SHORT_ENGLISH
from training.evaluation.report.tables import by_slice, comparisons
from training.evaluation.results import ALL, Results
from training.evaluation.run import evaluate
from training.evaluation.settings import EvalSettings

SHOWN = [ALL, OTHER_LANGUAGES, SHORT_ENGLISH, "task long"]


def run(work: Path, limit: int | None) -> Results:
    """The default systems on the demo's test split."""
    return evaluate(
        EvalSettings(
            index=corpus_index(work / "corpus"),
            adapter=str(paths.ADAPTER),
            systems=["direct", "frozen", "tuned", "auto"],
            limit=limit,
            work=work,
        )
    )


def as_markdown(results: Results) -> str:
    """R@10 by slice, then one line for each comparison."""
    lines = [f"- {line}" for part in comparisons(results) for line in part.splitlines()]
    return "\n\n".join([by_slice(results, SHOWN), "\n".join(lines)])


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
