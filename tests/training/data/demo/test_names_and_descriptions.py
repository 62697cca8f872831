"""The demo's rows: split by picture, in 13 languages; descriptions do not name their picture."""

import json

import pytest

from models.demo.gallery import LANGUAGES
from models.retriever.image_index import ImageIndex
from training.data.demo.names_and_descriptions import (
    DESCRIPTIONS,
    demo_rows,
    english_names,
)
from training.data.rows import Row, same_query
from training.data.splits import check_leakage, check_targets, split_of


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return demo_rows()


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
def test_the_demo_has_names_in_13_languages_and_descriptions(rows: list[Row]) -> None:
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
