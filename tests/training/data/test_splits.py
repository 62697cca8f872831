"""The splits: unknown ids and leaks are refused, and samples are even and repeatable."""

import pytest

from models.common.errors import InputError
from models.retriever.image_index import ImageIndex
from training.data.demo.names_and_descriptions import demo_rows
from training.data.rows import Row
from training.data.splits import check_leakage, check_targets, choose


def test_unknown_ids_are_counted_and_listed(demo_index: ImageIndex) -> None:
    known = demo_index.ids[0]
    rows = [Row(query="q", targets=(known, f"none-{n}")) for n in range(12)]
    with pytest.raises(
        InputError, match=r"12 of the data's ids .* none-0, none-1, none-10.*\.\.\."
    ):
        check_targets(rows, demo_index)
    check_targets([Row(query="q", targets=(known,))], demo_index)


def test_leaks_are_refused() -> None:
    tested = Row(query="ein Hund", targets=("dog",), split="test")
    with pytest.raises(InputError, match="'dog' is a target of the train split"):
        check_leakage([tested, Row(query="another", targets=("cat", "dog"))])
    with pytest.raises(InputError, match="in the validation split and in the test split"):
        check_leakage([tested, Row(query="EIN  hund", targets=("cat",), split="validation")])
    check_leakage([tested, Row(query="eine Katze", targets=("cat",))])


def test_samples_are_even_and_repeatable(demo_index: ImageIndex) -> None:
    rows = demo_rows()
    sample = choose(rows, "train", {"multilingual": 130, "long": 20}, seed=0)
    assert sample == choose(rows, "train", {"multilingual": 130, "long": 20}, seed=0)
    assert sample != choose(rows, "train", {"multilingual": 130, "long": 20}, seed=1)
    for language in ("de", "zh", "fa"):
        assert sum(r.language == language and r.task == "multilingual" for r in sample) in (9, 10)
    assert sum(row.task == "long" for row in sample) == 20
