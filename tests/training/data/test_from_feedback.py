"""`grape data from-feedback`: which marks become rows."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from grape import run
from models.client.marks import Mark, MarkKind
from models.common.errors import InputError
from models.retriever.image_index import ImageIndex
from tests.support.colours import ColourEncoder
from training.data.feedback_settings import FeedbackSettings
from training.data.from_feedback import from_feedback
from training.data.personal import is_personal
from training.data.rows import Row
from training.data.sources import load_rows
from training.data.splits import check_leakage


def mark(query: str, picture: str, relevant: bool = True, kind: MarkKind = "marked") -> Mark:
    return Mark(
        time=datetime.now(UTC), query=query, id=picture, relevant=relevant, kind=kind, index="i@0"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "marks").mkdir()
    return tmp_path / "marks"


def rows_of(folder: Path, *marks: Mark, **settings: object) -> tuple[list[Row], str]:
    lines = "".join(one.model_dump_json() + "\n" for one in marks)
    (folder / "marks-000001.jsonl").write_text(lines + '{"time": "20')
    out = folder.parent / "rows.jsonl"
    said = from_feedback(FeedbackSettings(folder=folder, out=out, **settings))  # type: ignore[arg-type]
    return load_rows(str(out)), said


def test_marks_add_up(folder: Path) -> None:
    rows, said = rows_of(
        folder,
        mark("ein Hund", "dog"), mark("Ein HUND", "dog"), mark("ein Hund", "wolf"),
        mark("ein Hund", "cat"), mark("ein Hund", "cat"), mark("ein Hund", "cat", False),
        *[mark("un chat", "cat", kind="opened")] * 8,
        mark("once", "dog"),
    )  # fmt: skip
    assert [(row.query, row.targets) for row in rows] == [
        ("ein Hund", ("dog",)), ("un chat", ("cat",)),
    ]  # fmt: skip
    assert "2 rows" in said
    assert "from 15 marks" in said
    assert "1 lines that are no marks" in said
    assert "3 pictures below 2" in said


def test_the_last_word_of_a_search_counts(folder: Path) -> None:
    once = mark("ein Hund", "dog").model_copy(update={"request_id": "1"})
    again = mark("ein Hund", "dog").model_copy(update={"request_id": "2"})
    no = mark("ein Hund", "wolf", False).model_copy(update={"request_id": "2"})
    yes = mark("ein Hund", "wolf").model_copy(update={"request_id": "2"})
    rows, _ = rows_of(folder, *[once] * 5, again, yes, no, mark("ein Hund", "wolf"))
    assert rows[0].targets == ("dog",)
    with pytest.raises(InputError, match="No picture reaches"):
        rows_of(folder, *[once] * 5)


def test_a_lower_floor_takes_single_marks(folder: Path) -> None:
    rows, _ = rows_of(folder, mark("once", "dog"), mark("once", "wolf"), least=1)
    assert rows[0].targets == ("dog", "wolf")


def test_what_hangs_together_is_in_one_split(folder: Path) -> None:
    marks = [
        mark(f"query {n} {m}", picture)
        for n in range(60)
        for m in range(2)
        for picture in (f"{n}.png", f"{n}-{m}.png")
    ]
    rows, said = rows_of(folder, *marks, least=1)
    check_leakage(rows)
    assert {row.split for row in rows} == {"train", "validation", "test"}
    assert "120 rows" in said


@pytest.mark.parametrize(
    ("query", "personal"),
    [
        ("mail an anna@example.org", True), ("call +49 (30) 123 45 67", True),
        ("www.example.org picture", True), ("IBAN DE89 3704 0044 0532 0130 00", True),
        ("12 red apples in 2024", False), ("ein Hund @ home", False), ("10.000 Menschen", False),
    ],
)  # fmt: skip
def test_what_looks_personal(query: str, personal: bool) -> None:
    assert is_personal(query) is personal


def test_personal_queries_are_dropped_by_a_hook(folder: Path) -> None:
    marks = [mark("anna@example.org", "dog"), mark("ein Hund", "dog")]
    rows, said = rows_of(folder, *marks, least=1)
    assert [row.query for row in rows] == ["ein Hund"]
    assert "1 queries that look personal" in said
    rows, _ = rows_of(folder, *marks, least=1, drop="none")
    assert len(rows) == 2
    with pytest.raises(InputError, match="--drop no:thing is no MODULE:FUNCTION"):
        rows_of(folder, *marks, drop="no:thing")


def test_no_marks_and_no_rows_are_a_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(folder.parent / "rows.jsonl")
    assert run(["data", "from-feedback", str(folder), "--out", out]) == 2
    assert "There are no marks in" in capsys.readouterr().err
    assert run(["data", "from-feedback", str(folder / "no"), "--out", out]) == 2
    with pytest.raises(InputError, match="No picture reaches --least 2"):
        rows_of(folder, mark("once", "dog"))


def test_an_index_knows_captions_and_pictures_that_are_gone(folder: Path) -> None:
    index = folder.parent / "index"
    vectors = np.eye(2, 4, dtype=np.float32)
    records = [{"caption": "a brown dog"}, {}]
    ImageIndex.build(vectors, ["dog", "wolf"], records, ColourEncoder.fingerprint).save(index)
    marks = [mark("ein Hund", "dog"), mark("ein Wolf", "wolf"), mark("ein Bär", "bear")]
    rows, said = rows_of(folder, *marks, least=1, index=index)
    assert [(row.query, row.english) for row in rows] == [
        ("ein Hund", "a brown dog"), ("ein Wolf", None),
    ]  # fmt: skip
    assert "1 pictures that the index does not hold" in said
    assert json.loads((folder.parent / "rows.jsonl").read_text().splitlines()[0])["english"]
