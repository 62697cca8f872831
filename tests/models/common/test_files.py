"""Files and folders are whole or absent: after a full disk, a kill, and two writers at once."""

import multiprocessing
import multiprocessing.synchronize
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from models.common.files import new_folder, place_folder, remove_leftovers, write_file

FULL = OSError(28, "No space left on device")


def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise FULL

    monkeypatch.setattr("models.common.files.os.fsync", fail)


def test_a_file_is_replaced_and_nothing_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_file(path, b"one")
    write_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a.json"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_file(path, b"one")
    full_disk(monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        write_file(path, b"two")
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_folder_appears_when_it_is_finished(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder"
    with new_folder(target) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("whole")
        assert not target.exists()
    assert (target / "sub" / "file").read_text() == "whole"
    assert os.listdir(target.parent) == ["folder"]


@pytest.mark.parametrize("replace", [False, True])
def test_the_first_folder_stays_unless_it_is_replaced(tmp_path: Path, replace: bool) -> None:
    target = tmp_path / "folder"
    for text in ("first", "second"):
        with new_folder(target, replace=replace) as folder:
            (folder / text).touch()
    assert os.listdir(target) == ["second" if replace else "first"]
    assert os.listdir(tmp_path) == ["folder"]


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.write_text("a file")
    with pytest.raises(NotADirectoryError), new_folder(target, replace=True):
        pass
    assert target.read_text() == "a file"


def test_a_failure_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "folder"
    with new_folder(target) as folder:
        (folder / "old").touch()

    def fill() -> None:
        with new_folder(target, replace=True) as folder:
            (folder / "new").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill()
    full_disk(monkeypatch)
    with pytest.raises(OSError, match="No space left"), new_folder(target, replace=True) as folder:
        (folder / "new").touch()
    assert os.listdir(target) == ["old"]
    assert os.listdir(tmp_path) == ["folder"]


def test_what_a_killed_process_left_can_be_removed(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    script = (
        "import os, sys; from pathlib import Path; from models.common.files import new_folder\n"
        "with new_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').touch(); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(target)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not target.exists()
    assert len(os.listdir(tmp_path)) == 1
    other = tmp_path / ".folder-2.1234abcd.unfinished"
    other.mkdir()
    remove_leftovers(target)
    assert os.listdir(tmp_path) == [other.name]


def test_there_are_no_leftovers_in_a_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    remove_leftovers(tmp_path / "missing" / "folder")


def place_many(target: Path, replace: bool, gate: multiprocessing.synchronize.Barrier) -> None:
    """Races with another process, round after round, for a target that is new in each."""
    for number in range(30):
        with new_folder(target / str(number), replace=replace) as folder:
            for name in ("a", "b"):
                (folder / name).write_text(str(os.getpid()))
            gate.wait(60)  # both are finished and not yet in place


@pytest.mark.parametrize("replace", [False, True])
def test_two_processes_that_make_the_same_folder_both_succeed(
    tmp_path: Path, replace: bool
) -> None:
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(2)
    racers = [context.Process(target=place_many, args=(tmp_path, replace, gate)) for _ in range(2)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(120)
    assert [racer.exitcode for racer in racers] == [0, 0]
    assert sorted(os.listdir(tmp_path), key=int) == [str(number) for number in range(30)]
    for target in tmp_path.iterdir():
        assert sorted(os.listdir(target)) == ["a", "b"]
        assert (target / "a").read_text() == (target / "b").read_text()  # of one writer


def test_a_folder_that_is_placed_is_gone_from_where_it_was(tmp_path: Path) -> None:
    finished, target = tmp_path / "finished", tmp_path / "target"
    finished.mkdir()
    place_folder(finished, target)
    assert os.listdir(tmp_path) == ["target"]
