"""Files of rows as people have them: other endings, marks and separators, and cut lines."""

import json
from pathlib import Path

import pandas
import pytest

from models.common.errors import InputError
from training.data.sources import load_rows

LINE = json.dumps({"query": "ein Hund", "targets": ["1F415"]})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.JSONL", LINE),
        ("rows.ndjson", LINE + "\r\n\r\n"),
        ("rows.NDJSON", "\ufeff" + LINE),
        ("rows.jsonl", "\ufeff\n" + LINE),
        ("rows.csv", "\ufeffquery,targets\r\nein Hund,1F415\r\n\r\n"),
        ("rows.CSV", 'query,targets,english\n"ein Hund",1F415\n'),
        ("rows.tsv", "query\ttargets\nein Hund\t1F415\n"),
        ("rows.TSV", "\ufeffquery\ttargets\tenglish\nein Hund\t1F415\t\n"),
    ],
)
def test_a_file_is_read(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content.encode())
    (row,) = load_rows(str(tmp_path / name))
    assert (row.query, row.targets, row.english) == ("ein Hund", ("1F415",), None)


def test_parquet_in_capitals(tmp_path: Path) -> None:
    path = tmp_path / "rows.PARQUET"
    pandas.DataFrame([{"query": "ein Hund", "targets": ["1F415"], "english": None}]).to_parquet(
        path
    )
    (row,) = load_rows(str(path))
    assert row.query == "ein Hund"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", "query,targets\nx,1\nein Hund, rot,1F415\n", "line 3 has 3 cells, but .* 2 col"),
        ("a.csv", "query,targets\nein Hund, rot,1F415\n", "line 2 has 3 cells"),
        ("a.csv", "query,targets\nx,1,\n", "line 2 has 3 cells"),
        ("a.csv", 'query,targets\n"a\nb",1\nx,1,2\n', "line 4 has 3 cells"),
        ("a.csv", 'query,targets\nx,1\n"ein Hund,1F415\ny,2\n', "line 3 cannot be read"),
        ("a.csv", "query,query\nx,1\n", "line 1: two columns have the same name"),
        ("a.csv", "query;targets\nx;1\n", "row 1: query: Field required"),
        ("a.tsv", "query\ttargets\nx\t1\t2\n", "line 2 has 3 cells"),
        ("a.tsv", "", "holds no rows"),
        ("a.jsonl", LINE + "\n[1]\n", "line 2 is not a JSON object"),
        ("a.jsonl", LINE + "\n\n{\n", "line 3 cannot be read as JSON"),
        ("a.json", f"[{LINE}]", "unknown kind: its name must end in .jsonl, .ndjson"),
        ("rows", LINE, "unknown kind"),
    ],
)
def test_a_file_that_cannot_be_read_exactly_is_refused(
    name: str, content: str, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=sentence):
        load_rows(str(tmp_path / name))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_file_in_another_encoding_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"query,targets\nfa\xe7ade,1\n")
    with pytest.raises(InputError, match=r"cannot be read: it is not UTF-8"):
        load_rows(str(tmp_path / name))
