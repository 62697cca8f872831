"""Rows from captions alone, against real names: R@10 on the real names of the demo's test split.

    python -m benchmarks.own_data ADAPTER [--real ADAPTER] [--languages de,fr] [--limit N] [--write]

ADAPTER was trained on rows of `grape data from-captions` (docs/own-data.md has the commands), the
other one on the gallery's real names: the shipped adapter by default. One greedy rewrite each, on
the same queries, beside the frozen model; differences are paired. ``--write`` puts the table into
docs/own-data.md. An interrupted run continues where it stopped.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.pages import DOCS, write_between
from models.common import paths
from training.evaluation.queries import OTHER_LANGUAGES, SHORT_ENGLISH
from training.evaluation.results import Results
from training.evaluation.run import evaluate
from training.evaluation.settings import EvalSettings
from training.evaluation.statistics import estimate
from training.rewards.ranking import Floats

PAGE = DOCS / "own-data.md"
HEAD = (
    "| R@10 | queries | as typed | frozen | rows from captions | real names "
    "| captions minus frozen | captions minus real names |",
    "|---|---:|---:|---:|---:|---:|---:|---:|",
)
SLICES = {
    OTHER_LANGUAGES: "all names",
    "task long": "English descriptions",
    SHORT_ENGLISH: SHORT_ENGLISH,
}


def measured(adapter: str, systems: list[str], given: argparse.Namespace) -> Results:
    """`grape eval` of the demo's test split with this adapter."""
    languages = [*given.languages, "en"] if given.languages else []
    return evaluate(
        EvalSettings(
            systems=systems, adapter=adapter, limit=given.limit, languages=languages,
            work=given.work,
        )
    )  # fmt: skip


def table(captions: Results, real: Results, languages: list[str]) -> str:
    """The table.

    Args:
        captions: systems 'direct', 'frozen' and 'tuned'.
        real: the system 'tuned', of the same queries.
        languages: names in these have a line each.
    """
    assert [query.query for query in captions.queries] == [query.query for query in real.queries]
    found = {
        "direct": _found(captions, "direct"),
        "frozen": _found(captions, "frozen"),
        "captions": _found(captions, "tuned"),
        "real": _found(real, "tuned"),
    }
    lines = list(HEAD)
    shown = {f"language {code}": f"names in {code}" for code in languages} | SLICES
    for name, words in shown.items():
        places = [n for n, query in enumerate(captions.queries) if name in query.slices]
        if places:
            lines.append(_line(words, {key: own[places] for key, own in found.items()}))
    return "\n".join(lines)


def _line(words: str, found: Mapping[str, Floats]) -> str:
    cells = [_interval(own) for own in found.values()]
    cells += [
        _interval(found["captions"] - found[other], sign=True) for other in ("frozen", "real")
    ]
    return f"| {words} | {len(found['real'])} | {' | '.join(cells)} |"


def _interval(values: Floats, sign: bool = False) -> str:
    of = estimate(values)
    form = "+.3f" if sign else ".3f"
    return f"{of.value:{form}} [{of.low:{form}}, {of.high:{form}}]"


def _found(results: Results, name: str) -> Floats:
    """Whether each query's picture is among the first ten."""
    (system,) = (system for system in results.systems if system.name == name)
    found: Floats = (np.array(system.ranks) <= 10).astype(float)
    return found


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("adapter", type=Path, help="trained on rows from captions")
    parser.add_argument("--real", default="auto", help="trained on real names")
    parser.add_argument(
        "--languages", type=lambda given: given.split(","), default=[],
        help="comma-separated: only names in these, each with a line of its own",
    )  # fmt: skip
    parser.add_argument("--limit", type=int, help="queries of each language and task")
    parser.add_argument("--work", type=Path, default=paths.cache_dir() / "eval")
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    given = parser.parse_args()
    captions = measured(str(given.adapter), ["direct", "frozen", "tuned"], given)
    real = measured(given.real, ["tuned"], given)
    text = table(captions, real, given.languages)
    print(text)
    if given.write:
        write_between(PAGE, "own data", text)


if __name__ == "__main__":
    main()
