"""One whole index at every moment: writers that are killed, that meet, and that cannot write."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.common.errors import GrapeError, InputError
from models.retriever.image_index import ImageIndex
from models.retriever.index_files import writing
from models.retriever.manifest import MANIFEST, EncoderFingerprint
from tests.support.vectors import unit_vectors

KILLS = 60


def save(folder: Path, fingerprint: EncoderFingerprint, count: int, text: str = "") -> None:
    ids = [str(number) for number in range(count)]
    records = [{"text": f"{text}{number}"} for number in range(count)]
    ImageIndex.build(unit_vectors(count), ids, records, fingerprint).save(folder)


@pytest.mark.heavy
def test_writers_killed_at_random_moments_leave_a_whole_index(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.killed_writers", str(tmp_path), str(KILLS), "7"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == ""
    assert int(done.stdout) > KILLS // 10, "too few of the writers came to write anything"
    left = {path.name.split("-")[0] for path in (tmp_path / "index").iterdir()}
    assert {MANIFEST, ".lock", "vectors", "items"} <= left


@pytest.fixture
def other_writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of an index."""
    script = f"""
from pathlib import Path
from models.retriever.index_files import writing
with writing(Path({str(tmp_path / "index")!r})):
    print("holds it", flush=True)
    input()
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "holds it\n"
        yield process
        process.kill()


def test_a_second_writer_is_told_and_a_dead_ones_lock_is_broken(
    tmp_path: Path, fingerprint: EncoderFingerprint, other_writer: subprocess.Popen[str]
) -> None:
    folder = tmp_path / "index"
    with pytest.raises(InputError, match="Another process is writing the index"):
        save(folder, fingerprint, 3)
    other_writer.send_signal(signal.SIGKILL)
    other_writer.wait()
    save(folder, fingerprint, 3)
    with writing(folder), writing(folder):  # the same writer may hold it twice
        save(folder, fingerprint, 4)
    assert len(ImageIndex.open(folder, fingerprint)) == 4


def test_what_a_killed_writer_left_is_removed_by_the_next(
    tmp_path: Path, fingerprint: EncoderFingerprint
) -> None:
    save(tmp_path, fingerprint, 3)
    for name in (".0123456789abcdef.unfinished", "vectors-0.faiss", "items-0.sqlite", "note.txt"):
        (tmp_path / name).write_text("left")
    save(tmp_path, fingerprint, 4)
    assert len(list(tmp_path.iterdir())) == 5
    assert (tmp_path / "note.txt").exists(), "it is not ours"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_and_a_read_only_folder_are_one_sentence(
    small_disk: Path, fingerprint: EncoderFingerprint
) -> None:
    folder = small_disk / "index"
    save(folder, fingerprint, 3)
    for size in (400, 4_000):  # the database, or already the vectors
        with pytest.raises(GrapeError, match=r"cannot be written \(.*\); .* is unchanged\.$"):
            save(folder, fingerprint, size * 20, "x" * 1000 if size < 1000 else "")
        assert len(ImageIndex.open(folder, fingerprint)) == 3
        assert len(list(folder.iterdir())) == 4
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(GrapeError, match="cannot be written"):
        save(folder, fingerprint, 4)
    assert len(ImageIndex.open(folder, fingerprint)) == 3
