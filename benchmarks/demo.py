"""What rewriting gains on the demo, and whether it is still what the README says.

    python -m benchmarks.demo [--write]

Runs `grape eval` on the test split, on its composed queries and on the small sample that
`make test` recomputes, and compares all with expected.yaml. ``--write`` (`make bench-demo`) puts
what was measured into expected.yaml and README.md instead. An interrupted run goes on.
"""

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from models.common import paths
from models.demo.gallery import LANGUAGES
from training.evaluation.queries import OTHER_LANGUAGES, SHORT_ENGLISH
from training.evaluation.report.tables import as_text
from training.evaluation.results import ALL, Results, System
from training.evaluation.run import evaluate
from training.evaluation.settings import EvalSettings

HERE = Path(__file__).parent
EXPECTED = HERE / "expected.yaml"
README = HERE.parent / "README.md"
PAGE = HERE.parent / "docs" / "evaluation.md"
SLICES = (OTHER_LANGUAGES, "task long", SHORT_ENGLISH, "task composed")


def expected() -> dict[str, dict[str, Any]]:
    """The entries of expected.yaml: command, data, tolerance, and R@10 by system and slice."""
    entries: dict[str, dict[str, Any]] = yaml.safe_load(EXPECTED.read_text())
    return entries


def measure(entry: Mapping[str, Any], work: Path) -> Results:
    """Runs the entry's command in this process."""
    return evaluate(EvalSettings(work=work, **entry["settings"]))


def values(results: Results) -> dict[str, dict[str, float]]:
    return {
        system.name: {
            name: round(system.metrics[name][results.main_metric].value, 3)
            for name in SLICES
            if name in system.metrics
        }
        for system in results.systems
    }


def drifts(entry: Mapping[str, Any], results: Results) -> list[str]:
    """A line for each value that is further from what is expected than the tolerance.

    One query of a slice is none: an engine adds up in another order when its batches are others,
    and a greedy answer may come out differently.
    """
    found = values(results)
    told = []
    for system, slices in entry["expected"].items():
        for name, value in slices.items():
            allowed = max(entry["tolerance"], 1.01 / results.slices[name])
            if abs(found[system][name] - value) > allowed:
                now = f"{found[system][name]:.3f}"
                told.append(f"{system}, {name}: {now}, expected {value:.3f} within {allowed:.3f}")
    return told


def worse_by_default(results: Results) -> list[str]:
    """The slices that `auto` answers significantly worse than the query as typed; none may."""
    (auto,) = (system for system in results.systems if system.name == "auto")
    return [
        found.slice
        for found in auto.comparisons
        if found.against == "direct" and found.difference.value < 0 and found.p_holm < 0.05
    ]


def table(results: Results) -> str:
    """The README's: R@10 with intervals, by language."""
    systems = {system.name: system for system in results.systems}
    columns = [systems[name] for name in ("direct", "frozen", "tuned", "auto")]
    lines = [
        "| | queries | as typed | frozen LLM, examples | shipped adapter | the same, `auto` |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    shown = {f"language {code}": name for code, name in LANGUAGES.items() if code != "en"}
    shown |= {
        OTHER_LANGUAGES: "**all of these**",
        "task long": "English descriptions",
        SHORT_ENGLISH: SHORT_ENGLISH,
    }
    for name, words in shown.items():
        cells = [_cell(system, name, results.main_metric) for system in columns]
        lines.append(f"| {words} | {results.slices[name]} | {' | '.join(cells)} |")
    gate = [note for note in results.notes if note.startswith("The gate: ")]
    return "\n".join([*lines, "", *sentences(systems), "", *gate])


def sentences(systems: Mapping[str, System]) -> list[str]:
    """The differences that the project is judged by."""
    told = []
    for name, other, where, words in (
        ("tuned", "frozen", OTHER_LANGUAGES, "the adapter less the frozen model, other languages"),
        ("tuned", "frozen", "task long", "the same on English descriptions"),
        ("tuned", "direct", SHORT_ENGLISH, "its rewrite alone less as typed, short plain English"),
        ("always", "direct", SHORT_ENGLISH, "the same as served with `always`"),
        ("auto", "direct", SHORT_ENGLISH, "the same with `auto`"),
        ("auto", "direct", "task long", "`auto` less as typed, English descriptions"),
    ):
        (found,) = (c for c in systems[name].comparisons if (c.against, c.slice) == (other, where))
        d = found.difference
        told.append(f"{words}: {d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}], {_p(found.p_holm)}")
    return ["R@10, " + "; ".join(told) + "."]


def _p(value: float) -> str:
    return "Holm p < 0.0001" if value < 0.0001 else f"Holm p {value:.4f}"


def _cell(system: System, name: str, metric: str) -> str:
    found = system.metrics[name][metric]
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def write_between(path: Path, mark: str, text: str) -> None:
    """Puts text between the page's two marks."""
    marked = re.compile(rf"(<!-- {mark} -->\n).*?(\n?<!-- /{mark} -->)", re.DOTALL)
    path.write_text(marked.sub(lambda m: f"{m[1]}{text}\n<!-- /{mark} -->", path.read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write what was measured")
    arguments = parser.parse_args()
    entries = expected()
    work = paths.cache_dir() / "eval"
    wrong = []
    for name, entry in entries.items():
        results = measure(entry, work)
        assert results.slices[ALL]
        print(as_text(results), "\n")
        wrong += [f"{name}: {line}" for line in drifts(entry, results)]
        if worse := worse_by_default(results):
            sys.exit(f"{name}: `auto` is significantly worse than as typed on {', '.join(worse)}")
        entry["expected"] = values(results)
        if name == "whole" and arguments.write:
            write_between(README, "languages", table(results))
    if arguments.write:
        head = re.match(r"(#.*\n)*", EXPECTED.read_text())
        assert head
        EXPECTED.write_text(head[0] + yaml.safe_dump(entries, sort_keys=False))
    elif wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
