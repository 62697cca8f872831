"""Shards that are encoded on two nodes of a Ray cluster of this machine."""

import io
import json
import os
import signal
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from grape import run
from models.retriever import ray_build
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.retriever.manifest import read_manifest
from models.retriever.open import EncoderOptions

ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.heavy]

SHARDS, EACH = 6, 12


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Two nodes of one core each."""
    node = {"num_cpus": 1, "include_dashboard": False}
    started = pytest.importorskip("ray.cluster_utils").Cluster(
        initialize_head=True, head_node_args=node
    )
    try:
        started.add_node(num_cpus=1)
        started.wait_for_nodes()
        yield started.address
    finally:
        ray.shutdown()
        started.shutdown()


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Tar shards of noise, and one picture that cannot be read."""
    folder = tmp_path / "SHARDS"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(SHARDS):
        with tarfile.open(folder / f"{number}.tar", "w") as archive:
            for place in range(EACH):
                content = io.BytesIO()
                pixels = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(content, "PNG")
                data = content.getvalue() if (number, place) != (2, 3) else b"broken"
                add(archive, f"{number}-{place}.png", data)
                add(archive, f"{number}-{place}.json", json.dumps({"n": place}).encode())
    return folder


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    told = tarfile.TarInfo(name)
    told.size = len(data)
    archive.addfile(told, io.BytesIO(data))


def opened(folder: Path, encoder: ClipEncoder) -> ImageIndex:
    return ImageIndex.open(folder, encoder.fingerprint)


def assert_same(one: ImageIndex, other: ImageIndex) -> None:
    assert list(one.ids) == list(other.ids)
    assert list(one.metadata) == list(other.metadata)
    assert one.manifest.pictures == other.manifest.pictures
    np.testing.assert_allclose(one.vectors(), other.vectors(), atol=1e-5)


def test_two_nodes_give_the_index_of_a_plain_build(
    cluster: str, shards: Path, encoder: ClipEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, far = shards.with_name("PLAIN"), shards.with_name("RAY")
    assert run(["index", "build", str(shards), "--out", str(plain)]) == 0
    assert run(["index", "build", str(shards), "--out", str(far), "--ray", cluster]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == f"{far}: {SHARDS * EACH - 1} pictures indexed, 1 skipped."
    assert_same(opened(plain, encoder), opened(far, encoder))
    kept = [(one / "left-out.jsonl").read_text() for one in (plain, far)]
    assert kept[0] == kept[1]
    assert not far.with_name("RAY.parts").exists()


def test_a_worker_that_is_killed_costs_its_shard_alone(
    cluster: str, shards: Path, encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = shards.with_name("RAY")
    killed: list[int] = []

    def kill_one() -> None:
        """Kills a worker that encodes, once the first part is there."""
        parts = far.with_name("RAY.parts")
        for _ in range(1200):
            if list(parts.glob("part-*.npz")):
                for process in psutil.process_iter(["name", "cmdline"]):
                    if "_Worker" in " ".join(process.info["cmdline"] or []) and is_ours(process):
                        os.kill(process.pid, signal.SIGKILL)
                        killed.append(process.pid)
                        return
            time.sleep(0.05)

    killer = threading.Thread(target=kill_one)
    killer.start()
    assert run(["index", "build", str(shards), "--out", str(far), "--ray", cluster]) == 0
    killer.join()
    assert killed
    plain = shards.with_name("PLAIN")
    assert run(["index", "build", str(shards), "--out", str(plain)]) == 0
    assert_same(opened(plain, encoder), opened(far, encoder))


def is_ours(process: psutil.Process) -> bool:
    """Whether a process is of this test's cluster."""
    return psutil.Process().pid in [parent.pid for parent in process.parents()]


def test_a_build_that_was_killed_goes_on_with_what_is_missing(
    cluster: str, shards: Path, encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    far, work = shards.with_name("RAY"), shards.with_name("RAY.parts")
    files = sorted(shards.glob("*.tar"))
    where = ray_build.Cluster(cluster, EncoderOptions())
    assert sum(1 for _ in ray_build.encode_shards(files, work, encoder.fingerprint, where)) == 6
    gone = work / "part-000004.npz"
    times = {path: path.stat().st_mtime_ns for path in work.glob("part-*.npz") if path != gone}
    gone.unlink()
    asked: list[Any] = []
    connected = ray_build._connected

    def connect(address: str) -> Any:
        asked.append(address)
        return connected(address)

    monkeypatch.setattr(ray_build, "_connected", connect)
    monkeypatch.setattr("service.index_ray.forget", lambda work: None)
    assert run(["index", "build", str(shards), "--out", str(far), "--ray", cluster]) == 0
    assert len(asked) == 1
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert gone.exists()
    assert read_manifest(far).count == SHARDS * EACH - 1


def test_parts_of_other_shards_are_refused(
    shards: Path, encoder: ClipEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    work = shards.with_name("RAY.parts")
    ray_build._require_plan(work, sorted(shards.glob("*.tar")), encoder.fingerprint)
    (shards / "9.tar").write_bytes((shards / "0.tar").read_bytes())
    far = str(shards.with_name("RAY"))
    assert run(["index", "build", str(shards), "--out", far, "--ray", "127.0.0.1:9"]) == 2
    assert "has parts of other shards or of another encoder: delete it" in capsys.readouterr().err
