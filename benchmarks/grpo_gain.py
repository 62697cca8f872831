"""What GRPO gained over the adapter that it started from, both as served, on the test split.

    python -m benchmarks.grpo_gain START [--write]

START is the folder of that adapter. The same queries are searched with either, each with its own
gate and mixture; the differences are paired. ``--write`` puts the table into docs/grpo.md.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.demo import GAINS
from benchmarks.pages import DOCS, write_between
from models.common import paths
from tests.support.recall import expected
from training.evaluation.results import Results
from training.evaluation.run import evaluate
from training.evaluation.settings import EvalSettings
from training.evaluation.statistics import estimate
from training.rewards.ranking import Floats

PAGE = DOCS / "grpo.md"
SERVED, GREEDY = "auto", "tuned"
HEAD = (
    "| | queries | R@1 | gained | R@10 | gained | one rewrite, R@10 | gained |",
    "|---|---:|---:|---:|---:|---:|---:|---:|",
)


def measured(adapter: str, entry: str) -> Results:
    """An entry of expected.yaml with this adapter."""
    settings = {**expected()[entry]["settings"], "systems": [GREEDY, SERVED], "adapter": adapter}
    return evaluate(EvalSettings(work=paths.cache_dir() / "eval", **settings))


def row(before: Results, after: Results, slice_name: str, words: str) -> str:
    """A line of the table: what is reached, and what of it is gained."""
    places = [n for n, query in enumerate(after.queries) if slice_name in query.slices]
    cells = []
    for system, most in ((SERVED, 1), (SERVED, 10), (GREEDY, 10)):
        old, new = (_found(results, system, most)[places] for results in (before, after))
        gained = estimate(new - old)
        cells.append(
            f"{new.mean():.3f} | {gained.value:+.3f} [{gained.low:+.3f}, {gained.high:+.3f}]"
        )
    return f"| {words} | {len(places)} | {' | '.join(cells)} |"


def _found(results: Results, name: str, most: int) -> Floats:
    """Whether each query's picture is among the first ``most``."""
    (system,) = (system for system in results.systems if system.name == name)
    found: Floats = (np.array(system.ranks) <= most).astype(float)
    return found


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("start", type=Path, help="folder of the adapter that GRPO started from")
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    arguments = parser.parse_args()
    lines = list(HEAD)
    runs: dict[str, tuple[Results, Results]] = {}
    for entry, slice_name, words in GAINS:
        if entry not in runs:
            runs[entry] = measured(str(arguments.start), entry), measured("auto", entry)
        lines.append(row(*runs[entry], slice_name, words))
    print("\n".join(lines))
    if arguments.write:
        write_between(PAGE, "shipped", "\n".join(lines))


if __name__ == "__main__":
    main()
