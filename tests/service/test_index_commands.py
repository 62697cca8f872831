"""The commands of docs/index.md and docs/filters.md, run as they are shown, and what they say."""

import json
import re
import shlex
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from grape import run
from models.retriever.filters import parse_filter
from models.retriever.image_index import ImageIndex
from models.retriever.manifest import Scanned, read_manifest
from service.index_build import LEFT_OUT

DOCS = Path(__file__).parent.parent.parent / "docs"
COLOURS = ("red", "green", "blue")


def commands(page: str) -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    assert all(line.startswith(".venv/bin/grape ") for line in lines)
    return [shlex.split(line)[1:] for line in lines]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the pages name."""
    monkeypatch.chdir(tmp_path)
    for folder in ("PICTURES", "SHARDS"):
        (tmp_path / folder).mkdir()
    for name in COLOURS:
        Image.new("RGB", (32, 32), name).save(tmp_path / "PICTURES" / f"{name}.png")
    (tmp_path / "PICTURES" / "red.txt").write_text("a red square")
    (tmp_path / "PICTURES" / "notes.doc").write_text("x")
    (tmp_path / "TABLE.csv").write_text("path,stars\nred.png,5\ngreen.png,2\n")
    data = (tmp_path / "PICTURES" / "blue.png").read_bytes()
    table = pyarrow.Table.from_pylist([{"id": "one", "bytes": data, "year": 2020}])
    parquet.write_table(table, tmp_path / "SHARDS" / "0.parquet")
    np.save(tmp_path / "VECTORS.npy", np.eye(2, 256, dtype=np.float32))
    (tmp_path / "IDS.jsonl").write_text('{"id": "a"}\n{"id": "b"}\n')
    return tmp_path


@pytest.mark.heavy
def test_the_commands_of_the_pages_work(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dim = read_dim(here)
    np.save(here / "VECTORS.npy", np.eye(2, dim, dtype=np.float32))
    build, upkeep = commands("index.md")[:4], commands("index.md")[4:]
    for line in build:
        assert run(line) == 0, capsys.readouterr().err
    manifest = read_manifest(here / "INDEX")
    assert manifest.known_from == "captions"
    assert manifest.known_scores
    said = capsys.readouterr()
    assert said.out.splitlines()[1] == "INDEX: 3 pictures indexed, 0 skipped."
    assert "left out: 1 no picture format (.doc); INDEX/left-out.jsonl names each." in said.err
    (left,) = map(json.loads, (here / "INDEX" / LEFT_OUT).read_text().splitlines())
    assert left == {"path": "notes.doc", "kind": "no picture format (.doc)", "reason": ""}
    (search,) = commands("filters.md")
    assert run(search) == 0
    assert "red.png" in capsys.readouterr().out
    Image.new("RGB", (32, 32), "white").save(here / "PICTURES" / "new.png")
    for line in upkeep:
        if line[1] == "sync":
            (here / "PICTURES" / "blue.png").unlink()
            Image.new("RGB", (32, 32), "black").save(here / "PICTURES" / "late.png")
            (here / "PICTURES" / "new.png").rename(here / "new.png")
        if line[1] == "add":
            (here / "new.png").rename(here / "PICTURES" / "new.png")
        assert run(line) == 0, capsys.readouterr().err
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "INDEX: 1 added, 0 changed, 0 renamed, 1 removed; 3 pictures."
    assert out[1] == "INDEX: 1 added, 0 changed, 0 renamed, 0 removed; 4 pictures."
    assert out[2] == "INDEX: 0 added, 0 changed, 0 renamed, 1 removed; 3 pictures."
    assert [line[:4] for line in out[3:8]] == ["ok: "] * 5


def read_dim(here: Path) -> int:
    """Of the demo's encoder."""
    assert run(["index", "build", "PICTURES", "--out", "FIRST"]) == 0
    return read_manifest(here / "FIRST").encoder.dim


@pytest.mark.heavy
def test_an_index_remembers_how_it_was_built(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = "index build PICTURES --out INDEX --metadata TABLE.csv --exclude green.*"
    assert run(build.split()) == 0
    sync = ["index", "sync", "PICTURES", "INDEX"]
    assert run(sync) == 0
    (here / "TABLE.csv").write_text("path,stars\nred.png,3\nblue.png,4\n")
    assert run(sync) == 0
    assert run(["index", "add", "INDEX", "PICTURES/green.png"]) == 0
    assert run([*sync, "--exclude", "*.bmp"]) == 0
    (here / "TABLE.csv").unlink()
    capsys.readouterr()
    assert run([*sync, "--exclude="]) == 0
    assert "TABLE.csv is gone, so what it said stays as it is" in capsys.readouterr().err
    encoder = read_manifest(here / "INDEX").encoder
    index = ImageIndex.open(here / "INDEX", encoder)
    stars = {item.id: item.record.get("stars") for item in index.items.items()}
    assert stars == {"blue.png": 4, "red.png": 3, "green.png": None}
    assert index.manifest.scanned == Scanned(exclude=(), metadata=str(here / "TABLE.csv"))


@pytest.mark.heavy
def test_check_fails_on_a_wrong_index(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["index", "build", "PICTURES", "--out", "INDEX"]) == 0
    Image.new("RGB", (32, 32), "white").save(here / "PICTURES" / "red.png")
    assert run(["index", "check", "INDEX"]) == 1
    said = capsys.readouterr()
    assert "WRONG: 1 of 3 pictures have another vector than the index: red.png" in said.out
    assert said.err.splitlines()[-1].startswith("grape index check: the index INDEX did not pass")


@pytest.mark.heavy
def test_watching_goes_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["index", "build", "PICTURES", "--out", "INDEX"]) == 0
    looked = threading.Event()

    def change_and_end(seconds: float) -> None:
        assert seconds == 0.5
        if looked.is_set():
            raise KeyboardInterrupt
        looked.set()
        (here / "PICTURES" / "blue.png").unlink()

    clock = SimpleNamespace(sleep=change_and_end)
    monkeypatch.setattr("service.index_commands.time", clock)
    run(["index", "sync", "PICTURES", "INDEX", "--watch", "--every", "0.5"])
    assert read_manifest(here / "INDEX").count == 2


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("build nowhere --out I", "nowhere is not a folder"),
        ("build VECTORS.npy --out I", "--ids names the table"),
        ("build PICTURES --out I --ids IDS.jsonl", "--ids names the table"),
        ("sync PICTURES nowhere", "There is no index in nowhere"),
        ("remove nowhere red.png", "There is no index in nowhere"),
        ("check nowhere", "There is no index in nowhere"),
    ],
)
def test_bad_input_is_one_sentence(
    here: Path, capsys: pytest.CaptureFixture[str], line: str, sentence: str
) -> None:
    assert run(["index", *line.split()]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert sentence in told
    assert not (here / "nowhere").exists()
    assert not (here / "I").exists()


def test_the_conditions_of_the_page_are_filters() -> None:
    page = (DOCS / "filters.md").read_text()
    shown = re.findall(r"^\| (`\{.*?) \|", page, re.MULTILINE)
    examples = [json.loads(one) for row in shown for one in re.findall(r"`(\{.*?\})`", row)]
    examples += [json.loads(one) for one in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]
    assert len(examples) == 8
    for example in examples:
        parse_filter(example)
