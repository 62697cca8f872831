"""Measured recall against benchmarks/expected.yaml, for `make bench-demo` and the tests."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from training.evaluation.queries import OTHER_LANGUAGES, SHORT_ENGLISH
from training.evaluation.results import Results
from training.evaluation.run import evaluate
from training.evaluation.settings import EvalSettings

EXPECTED = Path(__file__).parent.parent.parent / "benchmarks" / "expected.yaml"
SLICES = (OTHER_LANGUAGES, "task long", SHORT_ENGLISH, "task composed")


def expected() -> dict[str, dict[str, Any]]:
    """The entries of expected.yaml: command, data, tolerance, and R@10 by system and slice."""
    entries: dict[str, dict[str, Any]] = yaml.safe_load(EXPECTED.read_text())
    return entries


def measure(entry: Mapping[str, Any], work: Path) -> Results:
    """Runs the entry's command in this process."""
    return evaluate(EvalSettings(work=work, **entry["settings"]))


def values(results: Results) -> dict[str, dict[str, float]]:
    """R@10 by system and slice, as expected.yaml has it."""
    return {
        system.name: {
            name: round(system.metrics[name][results.main_metric].value, 3)
            for name in SLICES
            if name in system.metrics
        }
        for system in results.systems
    }


def drifts(entry: Mapping[str, Any], results: Results) -> list[str]:
    """One line for each value that differs from the expected one by more than the tolerance.

    A difference of one query in a slice is not a drift: with other batches an engine adds up in
    another order, and a greedy answer may come out differently.
    """
    found = values(results)
    lines = []
    for system, slices in entry["expected"].items():
        for name, value in slices.items():
            allowed = max(entry["tolerance"], 1.01 / results.slices[name])
            if abs(found[system][name] - value) > allowed:
                now = f"{found[system][name]:.3f}"
                lines.append(f"{system}, {name}: {now}, expected {value:.3f} within {allowed:.3f}")
    return lines


def worse_by_default(results: Results) -> list[str]:
    """The slices on which `auto` is significantly worse than the query as typed; must be empty."""
    (auto,) = (system for system in results.systems if system.name == "auto")
    return [
        found.slice
        for found in auto.comparisons
        if found.against == "direct" and found.difference.value < 0 and found.p_holm < 0.05
    ]
