"""Rows from every kind of file; a bad row is named."""

import json
from pathlib import Path
from typing import Any

import pandas
import pytest

from models.common.errors import InputError
from training.data.rows import Row
from training.data.sources import load_rows

RECORDS: list[dict[str, Any]] = [
    {"query": "ein Hund", "targets": ["1F415"], "language": "de", "split": "train"},
    {
        "query": "猫",
        "targets": ["1F408", "1F431"],
        "grades": [2, 1],
        "language": "zh",
        "split": "test",
    },
]
LISTS = ("targets", "grades")


def _cell(values: Any) -> str:
    return "|".join(map(str, values))


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in RECORDS))
    elif kind == "csv":
        cells = [{**r, **{name: _cell(r.get(name, [])) for name in LISTS}} for r in RECORDS]
        pandas.DataFrame(cells).to_csv(path, index=False)
    else:
        pandas.DataFrame(RECORDS).to_parquet(path)
    assert load_rows(str(path)) == [Row.model_validate(record) for record in RECORDS]


def test_words_that_tables_take_for_nothing_are_queries(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("query,targets,english\nnull,1F415,zero\nNA,1F415,\n")
    assert [(row.query, row.english) for row in load_rows(str(path))] == [
        ("null", "zero"),
        ("na", None),
    ]


def test_a_data_set_by_name_is_read_by_datasets(tmp_path: Path) -> None:
    """A folder in the hub's layout: its splits become the rows'."""
    folder = tmp_path / "rows"
    folder.mkdir()
    for split in ("train", "test"):
        lines = [{"query": f"{split} query", "targets": ["1F415"]}]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
    assert {(row.query, row.split) for row in load_rows(str(folder))} == {
        ("train query", "train"),
        ("test query", "test"),
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"query": "", "targets": ["x"]}', "row 1: query: String should have at least 1"),
        ('{"query": "a"}', "row 1: targets: Field required"),
        ('{"query": "a", "targets": []}', "row 1: targets"),
        ('{"query": "a", "targets": 7}', "row 1: targets"),
        ('{"query": "a", "targets": null}', "row 1: targets"),
        ('{"query": "a", "targets": ["x", "y"], "grades": [1]}', "2 targets have 1 grades"),
        ('{"query": "a", "targets": ["x"], "grades": [0]}', "row 1: grades"),
        ('{"query": "a", "targets": ["x"], "task": "sing"}', "row 1: task: Input should be"),
        ('{"query": "a", "targets": ["x"]}\n{"targets": ["x"]}', "row 2: query: Field required"),
        ("{broken", "cannot be read"),
        ("", "holds no rows"),
    ],
)
def test_a_bad_row_is_named(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=sentence):
        load_rows(str(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for kind in ("jsonl", "csv", "parquet"):
        with pytest.raises(InputError, match="There is no data file"):
            load_rows(str(tmp_path / f"none.{kind}"))
