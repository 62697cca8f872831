"""The README's commands are run here, or are the run that this test is part of.

Those that would fetch a model from the hub or need a GPU are parsed by the program alone.
"""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from models.common import paths
from models.common.settings import config_file
from service import commands
from service.settings import Settings
from tests.support.grape_server import GRAPE, Server

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()


def shell_lines(text: str) -> list[str]:
    """The commands of all bash blocks, continued lines joined, comments cut off."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line.split("  #")[0].split("    #")[0].strip() for line in joined.splitlines() if line]


LINES = shell_lines(README)
# `make test` runs this; `make demo` is `grape demo prepare`, which `make test` runs too, and
# `grape serve`, which the server of these tests is. The hub is out of reach of a test.
MAKE = ["make demo", "make test"]
HUB = [line for line in LINES if "ViT-L-14" in line or "gpu.yaml" in line]
TRAIN = [line for line in LINES if "grape train" in line]  # run by test_docs_training.py
EVAL = [line for line in LINES if "grape eval" in line]  # run by test_docs_evaluation.py
RUN = [line for line in LINES if line not in (*MAKE, *HUB, *TRAIN, *EVAL)]


def test_the_readme_has_the_commands_that_are_expected() -> None:
    assert len(MAKE) == len([line for line in LINES if line in MAKE])
    assert len(HUB) == 2
    assert len(TRAIN) == 2
    assert len(RUN) == 5


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


def test_the_answer_shown_is_the_answer_given(server: Server, tmp_path: Path) -> None:
    shown = re.search(r"<!-- curl -->\n```json\n(.*?)```", README, re.DOTALL)
    assert shown, "the README shows no answer"
    curl = next(line for line in RUN if line.startswith("curl"))
    given = json.loads(run(curl, server, tmp_path))
    expected = json.loads(shown[1])
    for answer in (given, expected):
        answer.pop("timings_ms")
        answer.pop("request_id")
        for hit in answer["hits"]:
            hit["score"] = pytest.approx(hit["score"], abs=1e-3)
    assert given == expected


def test_settings_for_the_hub_are_understood(tmp_path: Path) -> None:
    """Parsed, not run: weights of this size come from a hub."""
    build = next(line for line in HUB if "index build" in line)
    flags = shlex.split(build)[3:]
    parsed = commands.IndexBuild(_cli_parse_args=flags)  # type: ignore[call-arg]
    assert parsed.encoder == "ViT-L-14"
    import open_clip

    assert (parsed.encoder, parsed.pretrained) in open_clip.list_pretrained()
    yaml = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert yaml
    (tmp_path / "gpu.yaml").write_text(yaml[1])
    token = config_file.set(tmp_path / "gpu.yaml")
    try:
        assert Settings().llm == "Qwen/Qwen2.5-7B-Instruct"
    finally:
        config_file.reset(token)


def test_the_table_has_every_language_and_beats_direct() -> None:
    value = r"([\d.]+) \[[\d., ]+\]"
    rows = re.findall(
        rf"^\| \w+ \| \d+ \| {value} \| {value} \| {value} \| {value} \|$", README, re.MULTILINE
    )
    assert len(rows) == 13
    assert all(float(direct) < float(frozen) < float(tuned) for direct, frozen, tuned, _ in rows)


def test_the_gallery_is_as_large_as_the_readme_says(server: Server) -> None:
    count = server.client.get("/info").json()["index"]["count"]
    assert f"{count:,} OpenMoji drawings" in README
    assert paths.index_dir().is_dir()
