"""A sample of the numbers in the README and docs/results.md, recomputed with the real models."""

from pathlib import Path

from tests.support.recall import drifts, expected, measure, worse_by_default
from training.evaluation.queries import OTHER_LANGUAGES


def test_the_sample_matches_what_is_expected(tmp_path: Path) -> None:
    entry = expected()["sample"]
    assert set(entry["expected"]) == {"direct", "frozen", "tuned", "always", "auto", "oracle"}
    results = measure(entry, tmp_path)
    assert drifts(entry, results) == []
    assert worse_by_default(results) == []
    recall = {s.name: s.metrics[OTHER_LANGUAGES]["R@10"].value for s in results.systems}
    assert recall["direct"] + 0.1 < recall["tuned"]


def test_a_drift_is_reported(tmp_path: Path) -> None:
    entry = expected()["sample"]
    entry["settings"]["systems"] = ["direct"]
    entry["expected"] = {"direct": {OTHER_LANGUAGES: 0.5}}
    (line,) = drifts(entry, measure(entry, tmp_path))
    assert "direct, other languages" in line
