"""What rewriting gains on the demo, and whether the docs still state it.

    python -m benchmarks.demo [--write]

Runs `grape eval` on the test split, on keywords, on composed queries, and on the small sample that
`make test` recomputes, and compares the results with expected.yaml. With ``--write``
(`make bench-demo`) the results are written to expected.yaml, README.md and docs/results.md instead.
An interrupted run continues where it stopped.
"""

import argparse
import re
import sys
from collections.abc import Mapping
from typing import Any

import yaml

from benchmarks.pages import MIXTURE, README, RESULTS, write_between
from models.common import paths
from models.demo.gallery import LANGUAGES
from tests.support.recall import (
    EXPECTED,
    drifts,
    expected,
    measure,
    values,
    worse_by_default,
)
from training.evaluation.queries import OTHER_LANGUAGES, SHORT_ENGLISH
from training.evaluation.report.tables import as_text
from training.evaluation.results import Results, System

SHOWN = ("direct", "frozen", "tuned", "auto")
HEAD = (
    "| | queries | as typed | frozen LLM, one rewrite | shipped adapter, one rewrite "
    "| as served: several |",
    "|---|---:|---:|---:|---:|---:|",
)
# Entry of expected.yaml, slice, and what the slice is called.
GAINS = (
    ("whole", OTHER_LANGUAGES, "names in 13 languages"),
    ("keywords", OTHER_LANGUAGES, "keywords in 13 languages"),
    ("whole", "task long", "English descriptions"),
    ("whole", SHORT_ENGLISH, SHORT_ENGLISH),
    ("composed", "task composed", "a picture and a change to it"),
)
OTHERS = {f"language {code}": name for code, name in LANGUAGES.items() if code != "en"} | {
    OTHER_LANGUAGES: "**all of these**",
}
BY_LANGUAGE = OTHERS | {"task long": "English descriptions", SHORT_ENGLISH: SHORT_ENGLISH}
KEYWORDS = OTHERS | {"language en": "English"}
# The differences that the project is judged by: system, other system, slice, sentence.
DIFFERENCES = (
    ("tuned", "frozen", OTHER_LANGUAGES, "adapter minus frozen model, other languages"),
    ("tuned", "frozen", "task long", "adapter minus frozen model, English descriptions"),
    (
        "tuned",
        "direct",
        SHORT_ENGLISH,
        "adapter's rewrite alone minus as typed, short plain English",
    ),
    ("always", "direct", SHORT_ENGLISH, "`always` as served minus as typed, short plain English"),
    ("auto", "tuned", OTHER_LANGUAGES, "`auto` minus the adapter's one rewrite, other languages"),
    ("auto", "tuned", "task long", "`auto` minus the adapter's one rewrite, English descriptions"),
    ("auto", "direct", SHORT_ENGLISH, "`auto` minus as typed, short plain English"),
    ("auto", "direct", "task long", "`auto` minus as typed, English descriptions"),
)


def gains(measured: Mapping[str, Results]) -> str:
    """The README's table: R@10 with intervals, for each kind of query."""
    return "\n".join([*HEAD, *(_row(measured[of], name, words) for of, name, words in GAINS)])


def mixture(measured: Mapping[str, Results]) -> str:
    """The table of docs/mixture.md: one rewrite against several, R@1 and R@10."""
    lines = [
        "| | one rewrite: R@1 | R@10 | as served: R@1 | R@10 | served minus one, R@10 |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for of, name, words in GAINS:
        systems = {system.name: system for system in measured[of].systems}
        cells = [
            _cell(systems[shown], name, metric)
            for shown in ("tuned", "auto")
            for metric in ("R@1", "R@10")
        ]
        gain = _difference(systems["auto"], "tuned", name)
        lines.append(f"| {words} | {' | '.join(cells)} | {gain} |")
    return "\n".join(lines)


def by_language(whole: Results) -> str:
    """The table of docs/results.md: R@10 with intervals by language, differences, and the gate."""
    rows = [_row(whole, name, words) for name, words in BY_LANGUAGE.items()]
    gate = [note for note in whole.notes if note.startswith("The gate: ")]
    lines = [*HEAD, *rows, "", "R@10:", "", *differences(whole), "", *gate]
    return "\n".join(lines)


def keywords(found: Results) -> str:
    """The table of keywords in docs/results.md."""
    rows = [_row(found, name, words) for name, words in KEYWORDS.items()]
    return "\n".join([*HEAD, *rows])


def differences(whole: Results) -> list[str]:
    """One line for each of ``DIFFERENCES``."""
    systems = {system.name: system for system in whole.systems}
    lines = []
    for name, other, where, words in DIFFERENCES:
        lines.append(f"- {words}: {_difference(systems[name], other, where)}")
    return lines


def _difference(system: System, other: str, where: str) -> str:
    (found,) = (c for c in system.comparisons if (c.against, c.slice) == (other, where))
    d = found.difference
    return f"{d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}], {_p(found.p_holm)}"


def _row(results: Results, name: str, words: str) -> str:
    systems = {system.name: system for system in results.systems}
    cells = [_cell(systems[shown], name, results.main_metric) for shown in SHOWN]
    return f"| {words} | {results.slices[name]} | {' | '.join(cells)} |"


def _cell(system: System, name: str, metric: str) -> str:
    found = system.metrics[name][metric]
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _p(value: float) -> str:
    return "Holm p < 0.0001" if value < 0.0001 else f"Holm p {value:.4f}"


def write(entries: Mapping[str, dict[str, Any]], measured: Mapping[str, Results]) -> None:
    """Puts the results into the pages and into expected.yaml, whose comment stays."""
    write_between(README, "gains", gains(measured))
    write_between(RESULTS, "languages", by_language(measured["whole"]))
    write_between(RESULTS, "keywords", keywords(measured["keywords"]))
    write_between(MIXTURE, "gains", mixture(measured))
    new = {name: {**entry, "expected": values(measured[name])} for name, entry in entries.items()}
    head = re.match(r"(#.*\n)*", EXPECTED.read_text())
    assert head
    EXPECTED.write_text(head[0] + yaml.safe_dump(new, sort_keys=False))


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the results into the docs")
    arguments = parser.parse_args()
    entries = expected()
    measured = {}
    for name, entry in entries.items():
        measured[name] = measure(entry, paths.cache_dir() / "eval")
        print(as_text(measured[name]), "\n")
        if worse := worse_by_default(measured[name]):
            sys.exit(f"{name}: `auto` is significantly worse than as typed on {', '.join(worse)}")
    if arguments.write:
        write(entries, measured)
        return
    drifted = [
        f"{name}: {line}"
        for name, entry in entries.items()
        for line in drifts(entry, measured[name])
    ]
    if drifted:
        sys.exit("\n".join(drifted))


if __name__ == "__main__":
    main()
