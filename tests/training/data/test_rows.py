"""Rows from every kind of file, checked; the demo's data, split by picture."""

import json
from pathlib import Path

import pandas
import pytest

from models.common.errors import InputError
from models.demo.gallery import LANGUAGES
from models.retriever.image_index import ImageIndex
from training.data.demo.queries import DESCRIPTIONS, demo_rows, english_names, split_of
from training.data.rows import Row, check_leakage, check_targets, choose, load_rows, same_query

RECORDS = [
    {"query": "ein Hund", "targets": ["1F415"], "language": "de", "split": "train"},
    {"query": "猫", "targets": ["1F408", "1F431"], "language": "zh", "split": "test"},
]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return demo_rows()


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in RECORDS))
    elif kind == "csv":
        cells = [{**r, "targets": "|".join(r["targets"])} for r in RECORDS]
        pandas.DataFrame(cells).to_csv(path, index=False)
    else:
        pandas.DataFrame(RECORDS).to_parquet(path)
    assert load_rows(str(path)) == [Row.model_validate(record) for record in RECORDS]


def test_words_that_tables_take_for_nothing_are_queries(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("query,targets,english\nnull,1F415,zero\nNA,1F415,\n")
    assert [(row.query, row.english) for row in load_rows(str(path))] == [
        ("null", "zero"),
        ("NA", None),
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


def test_the_demo_is_split_by_picture(rows: list[Row], demo_index: ImageIndex) -> None:
    check_targets(rows, demo_index)
    check_leakage(rows)
    pictures: dict[str, set[str]] = {}
    for row in rows:
        pictures.setdefault(row.targets[0], set()).add(row.split)
    assert all(len(splits) == 1 for splits in pictures.values())
    assert split_of("1F409") == split_of("1F409")
    shares = [sum("test" in s for s in pictures.values()) / len(pictures)]
    assert 0.25 < shares[0] < 0.35
    trained = {same_query(row.query) for row in rows if row.split == "train"}
    for row in rows:
        if row.split != "train":
            assert same_query(row.query) not in trained


@pytest.mark.heavy
def test_the_demo_asks_in_13_languages_and_by_description(rows: list[Row]) -> None:
    for language in LANGUAGES:
        if language != "en":
            assert sum(row.language == language for row in rows) > 1000
    assert sum(row.task == "long" and row.language == "en" for row in rows) >= 600


@pytest.mark.heavy
def test_descriptions_name_nothing() -> None:
    names = english_names()
    texts = []
    for line in DESCRIPTIONS.read_text().splitlines():
        record = json.loads(line)
        texts.append(record["text"])
        words = f" {' '.join(record['text'].casefold().replace(',', ' ').split())} "
        name = names.get(record["id"], "?").casefold()
        assert f" {name} " not in words, record
        count = len(record["text"].split())
        assert (25 if record["style"] == "long" else 5) <= count <= 56, record
    assert len(texts) >= 600
    assert len(set(texts)) == len(texts)


@pytest.mark.heavy
def test_queries_are_drawn_evenly_and_always_alike(rows: list[Row]) -> None:
    drawn = choose(rows, "train", {"multilingual": 130, "long": 20}, seed=0)
    assert drawn == choose(rows, "train", {"multilingual": 130, "long": 20}, seed=0)
    assert drawn != choose(rows, "train", {"multilingual": 130, "long": 20}, seed=1)
    for language in ("de", "zh", "fa"):
        assert sum(r.language == language and r.task == "multilingual" for r in drawn) in (9, 10)
    assert sum(row.task == "long" for row in drawn) == 20
