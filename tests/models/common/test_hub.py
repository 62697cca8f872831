"""Downloads by name and revision, against a hub that can be gated, slow, damaged or away."""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants, hf_hub_download

from models.common import hub as product
from models.common.errors import GrapeError, InputError
from tests.support.hub import TOKEN, Hub

NAME = "someone/model"
PATTERNS = ("*.safetensors", "*.json")
LARGE = 24 * 2**20  # more than two of the chunks that the library writes at once
_FETCH = """
import sys
from models.common import hub
from models.common.errors import GrapeError
try:
    print(hub.fetch(hub.parse(sys.argv[1]), ("*.safetensors", "*.json")))
except GrapeError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def fetch(spec: str) -> Path:
    return product.fetch(product.parse(spec), PATTERNS)


def refusal(spec: str) -> str:
    with pytest.raises(GrapeError) as refused:
        fetch(spec)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def files(weights: bytes, more: str = "{}") -> dict[str, bytes]:
    others = {"onnx/model.safetensors": b"another format", "flax_model.msgpack": b"another"}
    return {"model.safetensors": weights, "config.json": more.encode(), "README.md": b"", **others}


def test_a_name_a_branch_and_a_commit(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    repository = hub.repository(NAME)
    first = repository.commit(files(b"first"))
    repository.commit(files(b"tried"), branch="experiment")
    folder = fetch(NAME)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert product.commit_of(folder) == first
    assert product.shown(str(folder)) == f"{NAME}@{first[:12]}"
    assert capsys.readouterr().err.startswith(f"Fetching {NAME} from {hub.url}, 0.0 MiB\n")
    assert (fetch(f"{NAME}@experiment") / "model.safetensors").read_bytes() == b"tried"

    repository.commit(files(b"second"))
    assert (fetch(f"{NAME}@{first}") / "model.safetensors").read_bytes() == b"first"
    assert (fetch(NAME) / "model.safetensors").read_bytes() == b"second"
    assert "msgpack" not in str(hub.asked)


def test_what_is_pinned_and_whole_needs_no_hub(hub: Hub) -> None:
    commit = hub.repository(NAME).commit(files(b"weights"))
    fetch(NAME)
    hub.asked.clear()
    assert product.commit_of(fetch(f"{NAME}@{commit}")) == commit
    assert hub.asked == []
    assert product.missing(product.parse(NAME), PATTERNS) == []


def test_what_another_program_fetched_a_part_of_is_completed(hub: Hub) -> None:
    commit = hub.repository(NAME).commit(files(b"weights"))
    hf_hub_download(NAME, "config.json", revision=commit)
    folder = fetch(f"{NAME}@{commit}")
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_offline_with_a_warm_cache_and_without(
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub.repository(NAME).commit(files(b"weights"))
    folder = fetch(NAME)
    hub.faults.status = 503
    assert fetch(NAME) == folder
    assert "What was fetched of someone/model before is used." in capsys.readouterr().err
    assert refusal("someone/other") == "The hub answers 503 for someone/other: try again later."
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert fetch(NAME) == folder
    assert "HF_HUB_OFFLINE switches the hub off: unset it" in refusal("someone/other")
    assert hub.asked == []


def test_no_such_repository_revision_or_name(hub: Hub) -> None:
    hub.repository(NAME).commit(files(b"weights"))
    assert refusal("someone/nothing").startswith(f"The hub {hub.url} has no someone/nothing: look")
    assert f"{NAME} has no revision 'v9': {hub.url}/{NAME} lists" in refusal(f"{NAME}@v9")
    for typed in ("a b/c", "../up", "a/b/c", "a@", "", "a--b/c", "https://hub/a/b"):
        with pytest.raises(InputError, match="is neither a folder nor a name on the hub"):
            product.parse(typed)


def test_a_gated_repository_says_where_to_accept(
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub.repository("meta/gated", gated=True).commit(files(b"weights"))
    told = refusal("meta/gated")
    assert told.startswith(
        f"meta/gated is gated: accept its terms at {hub.url}/meta/gated, and set"
    )
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    assert refusal("meta/gated") == told
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert (fetch("meta/gated") / "model.safetensors").read_bytes() == b"weights"


def test_a_transfer_that_breaks_off_goes_on(hub: Hub) -> None:
    weights = random.Random(0).randbytes(LARGE)
    hub.repository(NAME).commit(files(weights))
    hub.faults.breaks, hub.faults.break_after = 1, LARGE - 2**20
    assert (fetch(NAME) / "model.safetensors").read_bytes() == weights
    first, *_, last = hub.transfers()
    assert first == 0 < last


def test_an_interrupted_download_is_continued_and_never_taken_for_whole(
    hub: Hub,
    tmp_path: Path,
) -> None:
    weights = random.Random(0).randbytes(LARGE)
    hub.repository(NAME).commit(files(weights))
    cache = tmp_path / "killed"
    environment = os.environ | hub.environment(cache) | {"HF_HUB_CACHE": str(cache)}
    command = [sys.executable, "-c", _FETCH, NAME]
    hub.faults.seconds_a_chunk = 0.004
    killed = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in cache.rglob("*.incomplete")):
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    hub.faults.seconds_a_chunk = 0.0

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=environment | more, capture_output=True, text=True, check=False
        )

    offline = run(HF_HUB_OFFLINE="1")
    assert offline.returncode == 1
    assert "or not whole, and HF_HUB_OFFLINE" in offline.stderr
    done = run()
    assert done.returncode == 0, done.stderr
    assert (Path(done.stdout.strip()) / "model.safetensors").read_bytes() == weights
    assert hub.transfers()[0] == 0 < hub.transfers()[-1]
    assert run(HF_HUB_OFFLINE="1").stdout == done.stdout


@pytest.mark.parametrize("weights", [b"weights", b"w" * 9 * 2**20], ids=["small", "large"])
def test_what_arrives_damaged_is_not_used(hub: Hub, weights: bytes) -> None:
    hub.repository(NAME).commit(files(weights))
    hub.faults.damaged = True
    told = f"A file of {NAME} arrived damaged and was deleted: run the command again."
    assert refusal(NAME) == told
    hub.faults.damaged = False
    assert (fetch(NAME) / "model.safetensors").read_bytes() == weights


def test_a_full_disk_is_seen_before_the_download(
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub.repository(NAME).commit(files(b"w" * 2**20))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**20))
    assert "takes 1.0 MiB in " in refusal(NAME)
    assert "free 0.3 GiB, or name another folder in HF_HOME." in refusal(NAME)
    assert hub.transfers() == []
