"""Writing files and folders so that a reader sees the old one or the new one, each of them whole.

New content goes into a hidden temporary name in the same folder, is flushed to the disk, and is
renamed into place.
"""

import contextlib
import errno
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_TEMPORARY = ".unfinished"
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST)  # what a rename onto a filled folder may raise


def write_file(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Writes a file atomically and durably; one that exists is replaced.

    Args:
        durable: False skips the flush to the disk, for many small files that can be made again.

    Raises:
        OSError: for example on a full disk. An existing file then stays as it was.
    """
    temporary = _temporary(path)
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync(path.parent)


@contextlib.contextmanager
def new_folder(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yields an empty folder to fill, which becomes ``target`` when the block succeeds.

    Args:
        target: where the folder goes. Its parents are created.
        replace: see :func:`place_folder`.

    Raises:
        OSError: for example on a full disk. The target then stays as it was.
    """
    with temporary_folder(target) as folder:
        yield folder
        place_folder(folder, target, replace=replace)


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder next to ``target``, and removes it unless it was renamed."""
    folder = _temporary(target)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def place_folder(finished: Path, target: Path, *, replace: bool = False) -> None:
    """Renames a finished folder to ``target``, on the same file system, after flushing its files.

    Args:
        replace: False keeps a target that exists: two processes that make the same folder both
            succeed, and whoever reads the first one keeps it. True replaces the target. A reader
            may find none for a moment, because POSIX does not exchange folders in one step.
    """
    _sync_tree(finished)
    while True:
        try:
            os.rename(finished, target)
            break
        except OSError as error:
            if error.errno not in _OCCUPIED:
                raise
        if replace:
            _remove(target)
        elif target.is_dir():
            return
    _sync(target.parent)


def remove_leftovers(target: Path) -> None:
    """Removes what killed processes left next to ``target``. No other process may be writing it."""
    for entry in target.parent.glob(f".{glob.escape(target.name)}.*{_TEMPORARY}"):
        shutil.rmtree(entry)


def _temporary(target: Path) -> Path:
    # Random and not the process id: containers that share a volume may share process ids.
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}{_TEMPORARY}")


def _remove(target: Path) -> None:
    """Renames the folder away before deleting it, so that nobody sees a half of it."""
    removed = _temporary(target)
    with contextlib.suppress(FileNotFoundError):  # another process has just done the same
        os.rename(target, removed)
        shutil.rmtree(removed, ignore_errors=True)


def _sync_tree(folder: Path) -> None:
    # The file system joins concurrent flushes: 1,900 small files took 7 s one by one, and 0.2 s so.
    entries = (path for path in folder.rglob("*") if not path.is_symlink())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(_sync, [folder, *entries]))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
