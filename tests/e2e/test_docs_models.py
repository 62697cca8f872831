"""The commands of docs/models.md, against a hub that has the models that the page names."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support.grape_server import GRAPE
from tests.support.hub import running_hub
from tests.support.hub_chain import write_pictures
from tests.support.hub_encoders import ENCODERS, write_encoder
from tests.support.hub_models import FAMILIES, write_model

PAGE = (Path(__file__).parent.parent.parent / "docs" / "models.md").read_text()
LINES = [line for line in PAGE.splitlines() if line.startswith(".venv/bin/grape")]


def test_the_commands_of_the_page_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(LINES) == 3
    write_pictures(tmp_path / "pictures")
    said = []
    with running_hub() as hub:
        for name, value in hub.environment(tmp_path / "hf").items():
            monkeypatch.setenv(name, value)
        encoder, llm = ENCODERS["siglip2"], FAMILIES["qwen2.5"]
        hub.repository(encoder.name).commit(write_encoder(tmp_path / "encoder", encoder))
        hub.repository(llm.name).commit(write_model(tmp_path / "llm", llm))
        for line in LINES:
            line = line.replace(".venv/bin/grape", str(GRAPE)).replace("INDEX", f"{tmp_path}/index")
            line = line.replace("PICTURES/", f"{tmp_path}/pictures")
            done = subprocess.run(shlex.split(line), capture_output=True, text=True, check=False)
            wrong = [told for told in done.stdout.splitlines() if told.startswith("WRONG")]
            # This machine may be busy.
            assert all(told.startswith("WRONG memory") for told in wrong), done.stdout
            assert done.returncode == bool(wrong), done.stderr[-2000:]
            said.append(done.stdout)
        assert not any(path.endswith("model.safetensors") and method == "GET"
                       for method, path, _ in hub.asked if llm.name in path)  # fmt: skip
    assert "to download" in said[0]
    assert f"{tmp_path}/index: 24 pictures indexed, 0 skipped." in said[1]
    assert re.search(f"language model: {llm.name}, [0-9.]+ MiB to download", said[2])
    assert "/hf/hub/models--timm--ViT-B-32-SigLIP2-256/snapshots/" in said[2]
