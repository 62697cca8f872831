"""`grape doctor`: every part is looked at, nothing is loaded, and the first remedy is named."""

import json
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import httpx
import psutil
import pytest

from grape import run
from models.common import paths
from models.common.findings import Finding, Gpu
from service.doctor import examine
from service.settings import Settings
from tests.support.hub import Hub

_PARTS = {
    "versions", "machine", "address", "index", "pictures", "language model", "hub", "adapter",
    "memory", "disk",
}  # fmt: skip


@pytest.fixture(autouse=True)
def enough_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else this machine is doing."""
    memory = SimpleNamespace(available=16 * 2**30, total=16 * 2**30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)


@pytest.fixture
def settings(small_index: Path) -> dict[str, object]:
    return {"index": small_index, "llm": "none", "port": 0}


def found(settings: dict[str, object], **changed: object) -> dict[str, Finding]:
    findings = examine(Settings.model_validate(settings | changed))
    return {finding.part: finding for finding in findings}


def wrong(settings: dict[str, object], part: str, **changed: object) -> str:
    finding = found(settings, **changed)[part]
    assert finding.state == "wrong"
    assert finding.remedy
    return finding.sentence


def test_all_is_well(settings: dict[str, object]) -> None:
    findings = found(settings)
    assert findings.keys() >= _PARTS
    assert {finding.state for finding in findings.values()} == {"ok"}
    assert findings["index"].sentence.startswith("5 pictures in ")
    assert "an estimate" in findings["memory"].sentence


def test_the_command_says_it_in_lines_or_in_json(
    small_index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--index", str(small_index), "--llm", "none", "--port", "0"]
    assert run(["doctor", *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok    ") for line in lines)
    assert run(["doctor", *flags, "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["part"] for one in told} >= _PARTS


def test_the_first_thing_to_do_is_the_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRAPE_CACHE", str(tmp_path))
    assert run(["doctor", "--port", "0"]) == 1
    out, told = capsys.readouterr()
    assert "WRONG index: the demo's gallery is not there" in out
    assert "WRONG language model: gemma3-270m is not prepared" in out
    assert told == (
        "grape doctor: index: the demo's gallery is not there: run `grape demo prepare`.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken(settings: dict[str, object]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = wrong(settings, "address", port=taken.getsockname()[1])
    assert "is taken" in said


def test_files_that_are_missing(settings: dict[str, object], tmp_path: Path) -> None:
    assert "is not there" in wrong(settings, "pictures", pictures=tmp_path / "none")
    copy = Path(shutil.copytree(str(settings["index"]), tmp_path / "copy"))
    next(copy.glob("vectors-*")).unlink()
    assert "is missing: build the index again" in wrong(settings, "index", index=copy)
    assert "There is no index in" in wrong(settings, "index", index=tmp_path / "none")


def test_an_endpoint_is_asked(settings: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    dead = "http://127.0.0.1:9/v1"
    assert "does not answer" in wrong(settings, "language model", llm="m", llm_endpoint=dead)
    asked: list[object] = []

    def get(address: str, headers: dict[str, str], timeout: float) -> httpx.Response:
        asked.append((address, headers))
        return httpx.Response(200 if headers else 401)

    monkeypatch.setattr(httpx, "get", get)
    known = {"llm": "m", "llm_endpoint": "http://127.0.0.1:9/v1/", "llm_api_key": "secret-key"}
    assert found(settings, **known)["language model"].state == "ok"
    assert asked == [("http://127.0.0.1:9/v1/models", {"Authorization": "Bearer secret-key"})]
    assert "answers 401" in wrong(settings, "language model", llm="m", llm_endpoint=dead)


def test_a_hub_name_is_looked_up_and_not_fetched(
    settings: dict[str, object], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = "language model"
    hub.repository("some/model").commit({"model.safetensors": b"w" * 2**20, "config.json": b"{}"})
    told = found(settings, llm="some/model")
    assert told[part].sentence == "some/model, 1.0 MiB to download"
    assert told["disk of the hub"].state == "ok"
    assert told["hub"].sentence == f"{hub.url} answers"
    assert found(settings)["hub"].sentence == "nothing that is named is there"
    assert "vLLM" in told["memory"].sentence
    assert hub.transfers() == []
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**10))
    assert (
        "or name another folder in HF_HOME"
        in found(settings, llm="some/model")["disk of the hub"].remedy
    )
    monkeypatch.undo()


def test_what_the_hub_says_is_what_doctor_says(settings: dict[str, object], hub: Hub) -> None:
    part = "language model"
    hub.repository("some/gated", gated=True).commit({"model.safetensors": b"w", "config.json": b""})
    assert "has no nobody/nothing" in wrong(settings, part, llm="nobody/nothing")
    assert "accept its terms at" in wrong(settings, part, llm="some/gated")
    assert "has no revision 'v2'" in wrong(settings, part, llm="some/gated@v2")
    hub.faults.status = 502
    assert "The hub answers 502" in wrong(settings, part, llm="some/gated")


def test_an_encoder_that_would_be_downloaded(settings: dict[str, object], hub: Hub) -> None:
    files = {"open_clip_model.safetensors": b"w" * 2**20, "open_clip_config.json": b"{}"}
    hub.repository("some/clip").commit(files)
    told = found(settings, encoder="hf-hub:some/clip@main")["encoder"].sentence
    assert told == "hf-hub:some/clip@main, 1.0 MiB to download"
    assert "did you mean ViT-B-32" in wrong(settings, "encoder", encoder="ViT-B-23", pretrained="x")


def test_a_gpu_that_is_too_small_for_both(
    settings: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x")
    monkeypatch.setattr("service.doctor.attaches_adapters", lambda: True)
    given: dict[str, object] = {"llm": str(tmp_path), "encoder_device": "cuda"}
    assert "there is no GPU here" in wrong(settings, "GPU memory", **given)
    gpu = Gpu("A small one, 550.1, 4096 MiB, 4000 MiB", 4 * 2**30, 4 * 2**30)
    monkeypatch.setattr("service.doctor.gpus", lambda: [gpu])
    assert found(settings, **given)["GPU memory"].sentence.startswith("an estimate, of 4.0 GiB: vL")
    assert "with weights of at most 0.0 GiB" in wrong(
        settings, "GPU memory", **given, llm_gpu_memory=0.2
    )
    assert "the encoder needs 1.0 GiB beside vLLM, and 0.2 are left" in wrong(
        settings, "GPU memory", **given, llm_gpu_memory=0.95
    )


def test_the_plans_of_the_commands(
    small_index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--index", str(small_index), "--llm", "none", "--port", "0", "--plan"]
    assert run(["serve", *flags]) == 0
    assert "ok    language model: none" in capsys.readouterr().out
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "a.png").write_bytes(b"")
    out = tmp_path / "index"
    assert run(["index", "build", str(pictures), "--out", str(out), "--plan"]) == 0
    told = capsys.readouterr().out
    assert f"ok    source: 1 pictures in {pictures}" in told
    assert "ok    encoder: local-dir:" in told
    assert not out.exists()
    assert run(["index", "build", "/no/such", "--out", str(out), "--plan"]) == 1
    assert "WRONG source: " in capsys.readouterr().out
    assert run(["index", "build", str(pictures), "--out", str(out), "--plan", "--json"]) == 0
    findings = map(json.loads, capsys.readouterr().out.splitlines())
    sentences = {finding["part"]: finding["sentence"] for finding in findings}
    assert sentences["source"] == f"1 pictures in {pictures}"
    assert sentences["memory"].startswith("about ")


@pytest.mark.parametrize(
    "changed", [{"llm": "/no/such/dir"}, {"llm": "m", "llm_endpoint": "http://host:abc"}]
)
def test_what_cannot_be_a_name_or_an_address(
    settings: dict[str, object], changed: dict[str, object]
) -> None:
    assert wrong(settings, "language model", **changed)


def test_an_adapter_that_does_not_fit(settings: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    wrong(settings, "adapter", llm=str(tmp_path), adapter=str(paths.ADAPTER))
    remote = {"llm": "m", "llm_endpoint": "http://127.0.0.1:9", "adapter": str(paths.ADAPTER)}
    shipped = found(settings, **remote)["adapter"]
    assert "for multilingual, long, composed" in shipped.sentence
    assert "--rerank-adapter needs" in wrong(
        settings, "adapter", **remote, rerank_adapter=paths.ADAPTER
    )


def test_an_encoder_and_a_folder_that_are_missing(
    settings: dict[str, object], tmp_path: Path
) -> None:
    assert found(settings)["encoder"].state == "ok"
    assert "has no open_clip_config.json" in wrong(
        settings, "encoder", encoder=f"local-dir:{tmp_path}"
    )
    (tmp_path / "file").write_text("")
    assert found(settings, feedback=tmp_path / "new")["feedback"].state == "ok"
    assert "cannot be written" in wrong(settings, "feedback", feedback=tmp_path / "file" / "x")


def test_a_driver_that_is_broken(
    settings: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'; exit 9\n")
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(program))
    assert wrong(settings, "GPU") == "NVIDIA-SMI has failed"


def test_too_little_memory_and_too_little_disk(
    settings: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x" * 2**20)
    needed = found(settings, llm=str(tmp_path), rerank_adapter=tmp_path)["memory"].sentence
    assert "vLLM of the reranker 2.9" in needed
    little = SimpleNamespace(available=2**30, total=2**31)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    assert "name a smaller --llm" in wrong(settings, "memory")
    full = SimpleNamespace(free=2**29)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: full)
    finding = found(settings)["disk"]
    assert finding.remedy == "disk: free 1.5 GiB, or name another folder in GRAPE_CACHE"
