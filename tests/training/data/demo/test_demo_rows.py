"""The demo's composed and long queries: made by rule, split by picture."""

import json
from collections import Counter
from pathlib import Path

import pytest

import grape
from models.common.errors import InputError
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from training.data.demo.queries import split_of
from training.data.rows import (
    DEMO,
    DEMO_ALL,
    DEMO_COMPOSED,
    DEMO_LONG,
    DEMO_REMOVALS,
    Row,
    check_leakage,
    check_targets,
    load_rows,
)
from training.evaluation.results import Results


@pytest.fixture(scope="module")
def composed(demo_index: ImageIndex) -> list[Row]:
    return load_rows(DEMO_COMPOSED)


@pytest.fixture(scope="module")
def long(demo_index: ImageIndex) -> list[Row]:
    return load_rows(DEMO_LONG)


def test_composed_rows_are_split_by_picture(composed: list[Row], demo_index: ImageIndex) -> None:
    check_targets(composed, demo_index)
    check_leakage(composed)
    assert Counter(row.split for row in composed)["test"] >= 500
    for row in composed:
        assert row.reference
        assert row.reference not in row.targets
        assert all(split_of(target) == row.split for target in row.targets)
        if row.split != "test":
            assert split_of(row.reference) != "test"
    asked = [row.asked.casefold() for row in composed]
    assert len(set(asked)) == len(asked)


def test_instructions_come_in_several_languages(composed: list[Row]) -> None:
    languages = Counter(row.language for row in composed if row.split == "test")
    assert set(languages) == {"en", "de", "fr", "es", "zh"}
    assert min(languages.values()) >= 30


def test_what_is_taken_away_is_rows_of_its_own(composed: list[Row]) -> None:
    removals = load_rows(DEMO_REMOVALS)
    check_leakage([*composed, *removals])
    asked = {row.asked: row for row in removals}
    assert asked["fork and knife / ohne Gabel"].english == "kitchen knife"
    assert asked["snow-capped mountain / sans neige"].english == "mountain"
    assert not {row.asked for row in composed} & asked.keys()
    assert {row.language for row in removals} == {"en", "de", "fr", "es", "zh"}
    for row in removals:
        assert row.reference not in row.targets
        assert all(split_of(target) == row.split for target in row.targets)


def test_a_change_is_a_lesson_in_every_language_that_has_words_for_it(composed: list[Row]) -> None:
    taught: dict[tuple[object, ...], set[str]] = {}
    for row in composed:
        if row.split == "train":
            change = (row.reference, row.targets)
            taught.setdefault(change, set()).add(row.language)
    assert Counter(map(len, taught.values())).keys() == {1, 5}
    tested = Counter((row.reference, row.targets) for row in composed if row.split == "test")
    assert max(tested.values()) <= 2, "some pairs of pictures differ in two ways that have words"


def test_a_composed_row_tells_the_model_of_its_picture(composed: list[Row]) -> None:
    asked = {row.asked: row.english for row in composed}
    assert asked["blue square / aber in Grün"] == "green square"
    assert asked["keycap 4 / con el número 7"] == "keycap 7"
    with pytest.raises(ValueError, match="a reference and its caption"):
        Row(query="but blue", targets=("x",), task="composed")


def test_the_same_change_of_another_picture_is_no_leak() -> None:
    row = Row(query="but blue", targets=("a",), task="composed", reference="r", caption="a red hat")
    other = row.model_copy(update={"targets": ("b",), "split": "test", "caption": "a red shoe"})
    check_leakage([row, other])
    with pytest.raises(InputError, match="'a red hat / but blue' is in the train split"):
        check_leakage([row, other.model_copy(update={"caption": "a Red hat"})])


def test_one_adapter_is_taught_all_tasks_without_a_leak(composed: list[Row]) -> None:
    rows = load_rows(DEMO_ALL)
    check_leakage(rows)
    names = load_rows(DEMO)
    removals = load_rows(DEMO_REMOVALS)
    assert {row for row in rows if row.split == "test"} == {
        row for row in [*names, *composed, *removals] if row.split == "test"
    }
    plain = [row for row in rows if row.query == row.english and row.language == "en"]
    assert len(plain) > 500
    assert {row.task for row in rows} == {"multilingual", "long", "composed"}


def test_long_rows_come_to_the_point_behind_the_limit(
    long: list[Row], encoder: ClipEncoder
) -> None:
    check_leakage(long)
    assert all(encoder.text_length(row.query).truncated for row in long)
    assert all(len(row.query) < 2000 for row in long)


@pytest.mark.heavy
def test_parts_beat_silent_truncation_on_long_queries(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--data", DEMO_LONG, "--systems", json.dumps(["direct", "parts"])]
    flags += ["--work", str(tmp_path / "work"), "--report", str(tmp_path / "report")]
    assert grape.run(["eval", *flags]) == 0
    results = Results.model_validate_json((tmp_path / "report/results.json").read_text())
    direct, parts = results.systems
    assert all(len(texts) == 1 for texts in direct.texts)
    assert all(len(texts) > 1 for texts in parts.texts)
    (comparison,) = [c for c in parts.comparisons if c.slice == "all"]
    assert comparison.p < 0.05
    assert parts.metrics["all"]["R@10"].value > direct.metrics["all"]["R@10"].value
    assert parts.median_rank["all"] < direct.median_rank["all"]


@pytest.mark.heavy
def test_composed_baselines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    systems = ["direct", "image", "image+text", "oracle"]
    flags = ["--data", DEMO_COMPOSED, "--systems", json.dumps(systems)]
    flags += ["--work", str(tmp_path / "work"), "--report", str(tmp_path / "report")]
    assert grape.run(["eval", *flags]) == 0
    results = Results.model_validate_json((tmp_path / "report/results.json").read_text())
    found = {system.name: system.metrics["all"]["R@10"].value for system in results.systems}
    assert found["oracle"] > 0.95
    assert found["image+text"] > max(found["direct"], found["image"])
    assert "left out of every ranking" in capsys.readouterr().out
