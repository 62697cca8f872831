"""Every command of docs/own-data.md is run here, on a few drawings with their names beside them.

The environment makes the steps fewer and smaller; models, index and engine are real.
"""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from models.common import paths
from tests.e2e.test_docs import ROOT, shell_lines
from tests.support.grape_server import GRAPE, Server
from training.data.demo.names_and_descriptions import gallery
from training.data.sources import load_rows
from training.data.splits import split_of

LINES = shell_lines((ROOT / "docs" / "own-data.md").read_text())
NAMES = ("elephant", "guitar", "bicycle", "dog", "cat", "house", "red apple", "violin", "horse",
         "banana", "umbrella", "key", "ship", "tiger", "pizza", "mushroom")  # fmt: skip
SMALL = {
    "GRAPE_NAMES": "2",
    "GRAPE_WARM_START_EPOCHS": "20",
    "GRAPE_WARM_START_LEARNING_RATE": "1e-3",
    # Two more engines would start; tests/training/test_pipeline.py tests an adapter.
    "GRAPE_TEST_QUERIES": '{"multilingual": 0, "long": 0, "composed": 0}',
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader who follows the page has before the first command."""
    place = tmp_path_factory.mktemp("own-data")
    (place / "PICTURES").mkdir()
    drawings = {str(record["name"]): str(record["id"]) for record in gallery()}
    for name in NAMES:
        shutil.copy(
            paths.pictures_dir() / f"{drawings[name]}.svg", place / "PICTURES" / f"{name}.svg"
        )
        (place / "PICTURES" / f"{name}.txt").write_text(name)
    return place


def run(line: str, folder: Path) -> str:
    line = line.replace(".venv/bin/grape", str(GRAPE)).replace("training/", f"{ROOT}/training/")
    done = subprocess.run(
        shlex.split(line), cwd=folder, env={**os.environ, **SMALL}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_pictures_of_the_test_are_in_two_splits() -> None:
    assert {"train", "validation"} <= {split_of(f"{name}.svg") for name in NAMES}


@pytest.mark.slow  # minutes; the parts of the recipe have tests of their own
@pytest.mark.timeout(900)
def test_from_pictures_with_captions_to_a_server(folder: Path) -> None:
    build, data, train, serve = LINES
    assert f"{len(NAMES)} pictures" in run(build, folder)
    assert "rows.jsonl: " in run(data, folder)
    rows = load_rows(str(folder / "rows.jsonl"))
    assert {row.language for row in rows} >= {"de", "fr", "zh"}
    assert all(row.english in NAMES for row in rows)
    assert "| why | queries | such as |" in (folder / "rows.md").read_text()
    run(train, folder)
    flags = [word if word.startswith("--") else str(folder / word) for word in serve.split()[2:]]
    server = Server(folder / "server.log", *flags)
    try:
        server.wait_until_ready()
        info = server.client.get("/info").json()
        assert info["adapter"].startswith("composed-long-multilingual-")
    finally:
        server.stop()
