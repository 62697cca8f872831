"""The commands of the README and docs/own-pictures.md are run here, or are the run that this test
is part of.

Those that would fetch a model from the hub or need a GPU are only parsed by the program.
"""

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from models.common import paths
from models.common.settings import config_file
from service import commands
from service.settings import Settings
from tests.support.grape_server import GRAPE, Server

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
OWN_PICTURES = (ROOT / "docs" / "own-pictures.md").read_text()
RESULTS = (ROOT / "docs" / "results.md").read_text()


def shell_lines(text: str) -> list[str]:
    """The commands of all bash blocks, continued lines joined, comments cut off."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line.split("  #")[0].split("    #")[0].strip() for line in joined.splitlines() if line]


LINES = shell_lines(README) + shell_lines(OWN_PICTURES)
# `make test` runs this; `make demo` is `grape demo prepare`, which `make test` runs too, and
# `grape serve`, which the server of these tests is. The hub is out of reach of a test.
MAKE = ["make demo", "make test"]
HUB = [line for line in LINES if re.search("ViT-L-14|Qwen|gpu.yaml", line)]
TRAIN = [line for line in LINES if "grape train" in line]  # run by test_docs_training.py
EVAL = [line for line in LINES if "grape eval" in line]  # run by test_docs_evaluation.py
DOCKER = [line for line in LINES if line.startswith("docker")]  # run by `make docker-test`
RUN = [line for line in LINES if line not in (*MAKE, *HUB, *TRAIN, *EVAL, *DOCKER)]


def test_the_pages_have_the_commands_that_are_expected() -> None:
    assert len(MAKE) == len([line for line in LINES if line in MAKE])
    assert len(HUB) == 4
    assert len(TRAIN) == 2
    assert len(EVAL) == 1
    assert len(DOCKER) == 1
    assert len(RUN) == 6


def run(line: str, server: Server, folder: Path) -> str:
    line = line.replace("http://127.0.0.1:8000", server.url)
    line = line.replace(".venv/bin/grape", str(GRAPE))
    line = line.replace("PICTURES/", str(folder / "pictures")).replace(
        "INDEX", str(folder / "index")
    )
    return subprocess.run(shlex.split(line), capture_output=True, text=True, check=True).stdout


def test_every_command_works(server: Server, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (64, 64), "red").save(tmp_path / "pictures" / "red.png")
    for line in RUN:
        assert run(line, server, tmp_path), line


def test_the_pipes_of_the_clients_page_work(server: Server, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "clients.md").read_text()
    (block,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    for line in block.splitlines():
        line = line.replace("http://127.0.0.1:8000", server.url)
        line = line.replace(".venv/bin/grape", str(GRAPE))
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
        assert done.stdout.strip(), line


def check_shown(shown: Any, given: Any, where: str = "answer") -> None:
    """Everything that is shown must be in what is given; fields of objects may be left out."""
    if isinstance(shown, dict):
        for key, value in shown.items():
            assert key in given, f"{where} has no {key}"
            check_shown(value, given[key], f"{where}.{key}")
    elif isinstance(shown, list):
        assert len(shown) == len(given), where
        for number, value in enumerate(shown):
            check_shown(value, given[number], f"{where}[{number}]")
    elif isinstance(shown, float):
        assert given == pytest.approx(shown, abs=1e-3), where
    else:
        assert given == shown, where


def test_the_answer_shown_is_the_answer_given(server: Server, tmp_path: Path) -> None:
    shown = re.search(r"<!-- curl -->\n```json\n(.*?)```", README, re.DOTALL)
    assert shown, "the README shows no answer"
    curl = next(line for line in RUN if line.startswith("curl"))
    check_shown(json.loads(shown[1]), json.loads(run(curl, server, tmp_path)))


def test_a_shown_field_that_is_not_given_is_noticed() -> None:
    given = {"hits": [{"id": "1F3B8", "score": 0.5581, "rank": 1}], "degraded": False}
    check_shown({"hits": [{"id": "1F3B8", "score": 0.558}]}, given)
    wrong: list[Any] = [
        {"hits": []},
        {"hits": [{"name": "guitar"}]},
        {"hits": [{"score": 0.6}]},
        {"hits": [{"rank": 2}]},
        {"degraded": True},
    ]
    for shown in wrong:
        with pytest.raises(AssertionError):
            check_shown(shown, given)


def test_settings_for_the_hub_are_understood(tmp_path: Path) -> None:
    """Parsed, not run: weights of this size come from a hub."""
    import open_clip

    for build in (line for line in HUB if "index build" in line):
        flags = shlex.split(build)[3:]
        parsed = commands.IndexBuild(_cli_parse_args=flags)
        assert parsed.encoder == "ViT-L-14"
        assert (parsed.encoder, parsed.pretrained) in open_clip.list_pretrained()
    (serve,) = (line for line in HUB if "--llm" in line)
    served = commands.Serve(_cli_parse_args=shlex.split(serve)[2:])
    assert (served.index, served.llm) == (Path("INDEX"), "Qwen/Qwen2.5-7B-Instruct")
    yaml = re.search(r"```yaml\n(.*?)```", OWN_PICTURES, re.DOTALL)
    assert yaml
    (tmp_path / "gpu.yaml").write_text(yaml[1])
    token = config_file.set(tmp_path / "gpu.yaml")
    try:
        assert Settings().llm == "Qwen/Qwen2.5-7B-Instruct"
    finally:
        config_file.reset(token)


def test_the_table_has_every_language_and_beats_direct() -> None:
    value = r"([\d.]+) \[[\d., ]+\]"
    row = rf"^\| \w+ \| \d+ \| {value} \| {value} \| {value} \| {value} \|$"
    names = RESULTS.split("<!-- languages -->")[1].split("<!-- /languages -->")[0]
    rows = re.findall(row, names, re.MULTILINE)
    assert len(rows) == 13
    assert all(float(direct) < float(frozen) < float(tuned) for direct, frozen, tuned, _ in rows)


def test_the_readme_shows_rows_of_the_results() -> None:
    (shown,) = re.findall(r"<!-- gains -->\n(.*?)\n<!-- /gains -->", README, re.DOTALL)
    for ours, theirs in (
        ("names in 13 languages", r"\*\*all of these\*\*"),
        ("English descriptions", "English descriptions"),
        ("short plain English", "short plain English"),
    ):
        (row,) = re.findall(rf"^\| {ours} \|(.*)$", shown, re.MULTILINE)
        assert re.search(rf"^\| {theirs} \|{re.escape(row)}$", RESULTS, re.MULTILINE), ours


def test_the_gallery_is_as_large_as_the_readme_says(server: Server) -> None:
    count = server.client.get("/info").json()["index"]["count"]
    assert f"{count:,} OpenMoji drawings" in README
    assert paths.index_dir().is_dir()
