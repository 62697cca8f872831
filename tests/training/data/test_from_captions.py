"""`grape data from-captions`, with the demo's encoder, and a server that knows a few words."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from grape import run
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.retriever.types import Metadata
from tests.support.caption_server import CaptionServer, caption_server
from tests.support.grape_server import GRAPE
from training.data.rows import Row
from training.data.sources import load_rows
from training.data.splits import check_leakage, check_targets

CAPTIONS = ["elephant", "guitar", "red heart", "bicycle", "cat", "dog", "house", "red apple"]
WRITTEN = {
    "German: elephant": "Elefant", "German: guitar": "Guitar", "German: bicycle": "a bike",
    "German: cat": "Katze", "German: dog": "Hund", "German: house": "Hund!",
    "German: red heart": "rotes Herz", "German: red apple": "ein roter Apfel",
    "Description: elephant": "that very large grey animal with a trunk that is so long",
    "Say: red apple / red heart": "but a heart", "Say: red heart / red apple": "but an apple",
    "German: but a heart": "aber ein Herz", "German: but an apple": "aber ein Apfel",
}  # fmt: skip
READ = {
    "English: Elefant": "elephant", "English: Katze": "house", "English: Hund": "dog",
    "English: Hund!": "house", "English: rotes Herz": "red heart",
    "English: ein roter Apfel": "red apple",
    "Picture: that very large grey animal with a trunk that is so long": "elephant",
    "New picture: red apple / but a heart": "red heart",
    "New picture: red apple / aber ein Herz": "red heart",
    # The change is left out: this finds the near picture, not the right one.
    "New picture: red heart / but an apple": "red heart",
    "New picture: red heart / aber ein Apfel": "red heart",
}  # fmt: skip


@pytest.fixture(scope="module")
def index(encoder: ClipEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each picture's vector is that of its name; one has no name."""
    folder = tmp_path_factory.mktemp("captions") / "index"
    vectors = encoder.encode_texts([*CAPTIONS, "umbrella"])
    records: list[Metadata] = [{"name": caption} for caption in CAPTIONS]
    ids = [f"{place}.png" for place in range(len(CAPTIONS) + 1)]
    ImageIndex.build(vectors, ids, [*records, {}], encoder.fingerprint).save(folder)
    return folder


@pytest.fixture
def server() -> Iterator[CaptionServer]:
    with caption_server(WRITTEN | READ) as running:
        yield running


def flags(server: CaptionServer, index: Path, out: Path, *more: str) -> list[str]:
    return ["data", "from-captions", "--index", str(index), "--languages", "de", "--out", str(out),
            "--llm-endpoint", server.url, "--llm", "words", "--temperature", "0", "--names", "1",
            "--rewrites", "1", "--worst-rank", "1", *more]  # fmt: skip


def test_what_finds_its_picture_becomes_a_row(
    server: CaptionServer, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    encoder: ClipEncoder,
) -> None:  # fmt: skip
    out = tmp_path / "rows.jsonl"
    assert run(flags(server, index, out)) == 0
    told = capsys.readouterr()
    assert f"{out}: " in told.out
    assert "Writing (multilingual): 8 done in" in told.err
    rows = load_rows(str(out))
    check_leakage(rows)
    check_targets(rows, ImageIndex.open(index, encoder.fingerprint))
    names = {row.query: row for row in rows if row.task == "multilingual"}
    assert names.keys() == {"Elefant", "Hund", "rotes Herz", "ein roter Apfel"}
    apple = names["ein roter Apfel"]
    assert (apple.targets, apple.english, apple.language) == (("7.png",), "red apple", "de")
    (long,) = (row for row in rows if row.task == "long")
    assert (long.targets, long.language) == (("0.png",), "en")
    (change,) = (row for row in rows if row.task == "composed")
    assert (change.reference, change.caption, change.targets) == ("7.png", "red apple", ("2.png",))


def test_the_card_says_what_was_left_out_and_why(
    server: CaptionServer, index: Path, tmp_path: Path
) -> None:
    out = tmp_path / "rows.jsonl"
    assert run(flags(server, index, out)) == 0
    card = out.with_suffix(".md").read_text()
    assert "8 written about; 0 are the model's own, 1 pictures have none, and 0 capt" in card
    for line in (
        "| another language |", "| the caption again |", "| near-duplicates | 1 |",
        "| does not find its picture |", "Hund! (de) for house", "Guitar (de) for guitar",
        "a bike (de) for bicycle", "| multilingual | de |",
    ):  # fmt: skip
        assert line in card, line


def test_a_model_looks_at_pictures_without_captions(
    server: CaptionServer, small_index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pictures of one colour each; the one that the server does not know stays without."""
    for colour, name in (((255, 0, 0), "red"), ((0, 0, 255), "blue"), ((255, 255, 0), "yellow")):
        server.answers = {**server.answers, str(colour): f"A {name} square."}
    server.answers = {**server.answers, "German: A red square": "ein rotes Quadrat",
                      "English: ein rotes Quadrat": "a red square"}  # fmt: skip
    out = tmp_path / "rows.jsonl"
    given = flags(server, small_index, out, "--field", "caption", "--see", "--changes", "0")
    assert run([*given, "--worst-rank", "2"]) == 0
    (row,) = load_rows(str(out))
    assert (row.query, row.targets, row.english) == (
        "ein rotes Quadrat", ("red.png",), "A red square",
    )  # fmt: skip
    assert server.asked.count("picture") == 5
    assert "3 are the model's own, 2 pictures have none" in out.with_suffix(".md").read_text()
    assert run([*given, "--worst-rank", "2"]) == 0
    assert server.asked.count("picture") == 5


def test_a_killed_command_continues(server: CaptionServer, index: Path, tmp_path: Path) -> None:
    out, work = tmp_path / "rows.jsonl", tmp_path / "rows.work.jsonl"
    server.allowed = threading.Semaphore(5)
    command = [str(GRAPE), *flags(server, index, out, "--descriptions", "0", "--changes", "0")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not work.is_file() or len(work.read_text().splitlines()) < 5:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists()
    server.allowed.release(100)
    before = list(server.asked)
    assert run(command[1:]) == 0
    again = server.asked[len(before) :]
    assert len([question for question in again if question.startswith("German: ")]) == 3
    whole = out.read_bytes()
    assert {row.query for row in load_rows(str(out))} == {
        "Elefant", "Hund", "rotes Herz", "ein roter Apfel",
    }  # fmt: skip
    # Nothing is asked for again, and the rows are the same.
    before = list(server.asked)
    assert run(command[1:]) == 0
    assert (server.asked, out.read_bytes()) == (before, whole)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--field", "title"], "No picture of the index has a title in its metadata"),
        (["--names", "0", "--descriptions", "0", "--changes", "0"], "nothing to write"),
        (["--languages", "deutsch"], "'deutsch' is no ISO 639-1 code"),
        (["--out", "rows.csv"], "must end in .jsonl"),
    ],
)
def test_what_cannot_be_used_is_a_sentence(
    server: CaptionServer, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    more: list[str], sentence: str,
) -> None:  # fmt: skip
    given = flags(server, index, tmp_path / "rows.jsonl")
    given = [
        word for word in given if word not in ("--languages", "de") or "--languages" not in more
    ]
    assert run([*given, *more]) == 2
    assert sentence in capsys.readouterr().err


def test_a_model_that_knows_nothing_leaves_a_card(
    server: CaptionServer, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers = {}
    out = tmp_path / "rows.jsonl"
    assert run(flags(server, index, out)) == 1
    assert "No query is kept" in capsys.readouterr().err
    assert not out.exists()
    assert "| no answer | 24 |" in out.with_suffix(".md").read_text()


def test_some_pictures_are_the_same_for_a_seed(
    server: CaptionServer, index: Path, tmp_path: Path
) -> None:
    found: list[list[Row]] = []
    for name in ("one", "two"):
        out = tmp_path / name / "rows.jsonl"
        more = ("--limit", "5", "--seed", "3", "--descriptions", "0", "--changes", "0")
        assert run(flags(server, index, out, *more)) == 0
        found.append(load_rows(str(out)))
    assert found[0] == found[1]
    assert len({question for question in server.asked if question.startswith("German: ")}) == 5
