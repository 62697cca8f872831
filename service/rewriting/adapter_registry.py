"""The folder from which adapters may be loaded while the service runs."""

import contextlib
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from models.common.errors import InputError
from models.common.files import place_folder, temporary_folder
from models.rewriter.adapter import CONFIG, GRAPE_JSON, WEIGHTS, content_hash
from models.search.gate import GATE_JSON
from models.search.mixture import MIXTURE_JSON

_FITTED = (GATE_JSON, MIXTURE_JSON)  # to the adapter; it works without them
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class NoSuchAdapter(InputError):
    """The registry has no folder with that name."""


class Registry:
    """A folder in which each child folder is an adapter.

    A copy is served. If the adapter is overwritten in the registry, the copy goes on answering, and
    the new content gets another name, because a name contains the hash of the content.

    Raises:
        InputError: the folder does not exist.
    """

    def __init__(self, folder: Path, copies: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"--adapter-registry {folder} is not a folder: make it first.")
        self._folder = folder.resolve()
        self._copies = copies

    def names(self) -> list[str]:
        """Names of the adapters that can be loaded."""
        return sorted(
            entry.name
            for entry in os.scandir(self._folder)
            if _NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
        )

    def copy(self, name: str) -> Path:
        """Copies an adapter's files to a folder that is named after the hash of their content.

        No symbolic link in the registry is followed.

        Raises:
            NoSuchAdapter: no such folder.
            InputError: not a plain name, a missing file, or an adapter that cannot be copied.
        """
        if not _NAME.fullmatch(name):
            raise InputError(
                "name: must be a plain name of a folder: letters, digits, '.', '_' and '-'."
            )
        try:
            with temporary_folder(self._copies / name) as copied:
                with _opened(self._folder, name) as folder:
                    for file in (CONFIG, WEIGHTS, GRAPE_JSON):
                        _copy(folder, file, copied / file, name)
                    for file in _FITTED:
                        with contextlib.suppress(FileNotFoundError):
                            _copy(folder, file, copied / file, name)
                target = self._copies / _content_name(copied)
                place_folder(copied, target)
                return target
        except FileNotFoundError as error:
            raise InputError(
                f"{name} is not an adapter folder: {error.filename} is missing."
            ) from error
        except OSError as error:
            raise InputError(f"The adapter {name} cannot be copied ({error}).") from error


def _content_name(folder: Path) -> str:
    digest = hashlib.sha256(content_hash(folder).encode())
    for file in _FITTED:
        if (fitted := folder / file).exists():
            digest.update(fitted.read_bytes())
    return digest.hexdigest()[:32]


@contextlib.contextmanager
def _opened(registry: Path, name: str) -> Iterator[int]:
    """A descriptor of the folder, so that nobody can swap the folder for a link meanwhile."""
    try:
        folder = os.open(registry / name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise NoSuchAdapter(
            f"The registry has no folder {name!r}; GET /admin/adapters lists what it has."
        ) from error
    try:
        yield folder
    finally:
        os.close(folder)


def _copy(folder: int, file: str, target: Path, name: str) -> None:
    # O_NONBLOCK, because opening a pipe would wait for a writer.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    with open(os.open(file, flags, dir_fd=folder), "rb") as source:
        if not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
            raise InputError(f"{name}/{file} is not a regular file.")
        with open(target, "wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
