"""Every command of docs/training.md is run here, on the rows and settings that it shows.

The environment makes the steps fewer and smaller; the files are the page's own.
"""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.test_docs import README, shell_lines
from tests.support.grape_server import GRAPE, Server

PAGE = (Path(__file__).parent.parent.parent / "docs" / "training.md").read_text()
LINES = shell_lines(PAGE)
SMALL = {
    "GRAPE_SAMPLES": "2",
    "GRAPE_WARM_START_EPOCHS": "20",
    "GRAPE_WARM_START_LEARNING_RATE": "1e-3",
    "GRAPE_STEPS": "1",
    "GRAPE_PROMPTS_PER_STEP": "1",
    "GRAPE_GROUP_SIZE": "2",
    "GRAPE_MICRO_BATCH": "2",
    # Two more engines would start; tests/training/test_pipeline.py tests an adapter.
    "GRAPE_TEST_QUERIES": "{}",
}


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found, language
    return found[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader who follows the page has before the first command."""
    place = tmp_path_factory.mktemp("recipe")
    (place / "train.yaml").write_text(block("yaml"))
    (place / "rows.jsonl").write_text(block("json"))
    (place / "PICTURES").mkdir()
    rows = [json.loads(line) for line in block("json").splitlines()]
    for number, name in enumerate(sorted({t for row in rows for t in row["targets"]})):
        Image.new("RGB", (64, 64), (60 * number, 40, 90)).save(place / "PICTURES" / name)
    return place


def run(line: str, folder: Path) -> str:
    command = shlex.split(line.replace(".venv/bin/grape", str(GRAPE)))
    environment = {**os.environ, **SMALL}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_readme_names_commands_of_the_recipe() -> None:
    assert {line for line in shell_lines(README) if "grape train" in line} <= set(LINES)


@pytest.mark.timeout(900)
def test_the_four_commands(folder: Path) -> None:
    build, dry_run, train, serve = LINES
    assert "4 pictures" in run(build, folder)
    reported = run(dry_run, folder)
    assert "best of 2 samples by reward" in reported
    assert "GRPO will take about" in reported
    assert not (folder / "my-adapter").exists()
    run(train, folder)
    flags = [word if word.startswith("--") else str(folder / word) for word in serve.split()[2:]]
    server = Server(folder / "server.log", *flags)
    try:
        server.wait_until_ready()
        info = server.client.get("/info").json()
        assert info["adapter"].startswith("multilingual-")
        assert info["index"]["count"] == 4
    finally:
        server.stop()
