"""The files of an index folder: one writer at a time, and a whole index at every moment.

A new generation is written beside the old one, under names that hold the hash of their content.
Renaming the manifest switches to it. Then the files that no manifest names are removed.
"""

import contextlib
import hashlib
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from models.common.errors import GrapeError, InputError
from models.common.files import write_file
from models.retriever.manifest import MANIFEST, DataFile, IndexManifest

LOCK = ".lock"
_UNFINISHED = ".unfinished"
_CHECKED_AT_ONCE = 256 * 2**20  # bytes; hashing them takes a fifth of a second


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Holds the lock of an index folder, which may be held by the caller already.

    The system gives it up when the process ends, whatever ends it.

    Raises:
        InputError: another process is writing the index.
        GrapeError: the folder cannot be written.
    """
    # A singleton can be taken twice by the same thread.
    lock = FileLock(folder / LOCK, timeout=0, is_singleton=True)
    with _one_sentence(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout as error:
            raise InputError(
                f"Another process is writing the index {folder}: wait until it has finished."
            ) from error
    try:
        yield
    finally:
        lock.release()


def save(
    folder: Path,
    manifest: IndexManifest,
    write_vectors: Callable[[Path], None],
    write_items: Callable[[Path], None],
) -> IndexManifest:
    """Writes an index and switches to it. A crash, or a reader of the folder, keeps the old one.

    Raises:
        InputError: another process is writing the index.
        GrapeError: a full disk, or a folder that cannot be written.
    """
    with writing(folder), _one_sentence(folder):
        _clean(folder)  # what a killed writer left, which may be what fills the disk
        try:
            vectors = _placed(folder, "vectors-{}.faiss", write_vectors)
            items = _placed(folder, "items-{}.sqlite", write_items)
            manifest = manifest.model_copy(update={"vectors": vectors, "items": items})
            write_file(folder / MANIFEST, (manifest.model_dump_json(indent=2) + "\n").encode())
        finally:
            with contextlib.suppress(OSError):  # the next writer tries again
                _clean(folder)
    return manifest


def checked(folder: Path, file: DataFile, *, whole: bool = False) -> Path:
    """The path of a data file, if it is the one that the manifest names.

    Args:
        whole: reads all of it. Otherwise the size must do for a large one.

    Raises:
        ValueError: it is another one.
        OSError: it cannot be read.
    """
    path = folder / file.name
    if path.name != file.name or path.stat().st_size != file.bytes:
        raise ValueError(f"{file.name} does not have the size that {MANIFEST} says")
    if (whole or file.bytes <= _CHECKED_AT_ONCE) and _sha256(path) != file.sha256:
        raise ValueError(f"{file.name} is not what was saved")
    return path


@contextlib.contextmanager
def _one_sentence(folder: Path) -> Iterator[None]:
    """Turns what the system and the libraries say of a disk into a sentence."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
    except (sqlite3.Error, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1]
    else:
        return
    raise GrapeError(
        f"The index {folder} cannot be written ({reason}); an index that was there is unchanged."
    )


def _placed(folder: Path, name: str, write: Callable[[Path], None]) -> DataFile:
    """Writes a file and gives it the name of its content."""
    temporary = folder / f".{secrets.token_hex(8)}{_UNFINISHED}"
    try:
        write(temporary)
        digest = _sha256(temporary)
        target = folder / name.format(digest[:16])
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return DataFile(name=target.name, bytes=target.stat().st_size, sha256=digest)


def _clean(folder: Path) -> None:
    """Removes data files that the manifest does not name. The lock must be held."""
    try:
        named = (folder / MANIFEST).read_text()
    except FileNotFoundError:
        named = ""
    patterns = (f".*{_UNFINISHED}", "vectors-*.faiss", "items-*.sqlite", "items-*.jsonl")
    for pattern in patterns:
        for path in folder.glob(pattern):
            if path.name not in named:
                path.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
