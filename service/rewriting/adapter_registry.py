"""The folder that adapters are loaded from while the service runs, and nothing else."""

import contextlib
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from models.common.errors import InputError
from models.rewriter.adapter import CONFIG, GRAPE_JSON, WEIGHTS, content_hash
from models.search.gate import GATE_JSON

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class NoSuchAdapter(InputError):
    """The registry has no folder of that name."""


class Registry:
    """Each child folder is an adapter.

    What is served is a copy: an adapter that is overwritten in the registry goes on answering as it
    was, and is loaded again under another name, because the name carries the content.

    Raises:
        InputError: there is no such folder.
    """

    def __init__(self, folder: Path, copies: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"--adapter-registry {folder} is not a folder: make it first.")
        self._folder = folder.resolve()
        self._copies = copies

    def names(self) -> list[str]:
        """What could be loaded, by name."""
        return sorted(
            entry.name
            for entry in os.scandir(self._folder)
            if _NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
        )

    def copy(self, name: str) -> Path:
        """Copies an adapter's files to a folder that is named after their content.

        Links are followed nowhere below the registry.

        Raises:
            NoSuchAdapter: no such folder.
            InputError: a name that could lead elsewhere, or a folder that lacks a file.
        """
        if not _NAME.fullmatch(name):
            raise InputError(
                "name: a folder's plain name, of letters, digits, '.', '_' and '-', is needed."
            )
        self._copies.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=self._copies))
        try:
            with _opened(self._folder, name) as folder:
                for file in (CONFIG, WEIGHTS, GRAPE_JSON):
                    _copy(folder, file, beside / file, name)
                with contextlib.suppress(FileNotFoundError):
                    _copy(folder, GATE_JSON, beside / GATE_JSON, name)
            return self._put(beside)
        except FileNotFoundError as error:
            raise InputError(
                f"{name} is not an adapter folder: {error.filename} is missing."
            ) from error
        except OSError as error:
            raise InputError(f"The adapter {name} cannot be copied ({error}).") from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _put(self, beside: Path) -> Path:
        digest = hashlib.sha256(content_hash(beside).encode())
        if (gate := beside / GATE_JSON).exists():
            digest.update(gate.read_bytes())
        target = self._copies / digest.hexdigest()[:32]
        if not target.is_dir():
            beside.rename(target)
        return target


@contextlib.contextmanager
def _opened(registry: Path, name: str) -> Iterator[int]:
    """The folder's descriptor: what is opened through it cannot be exchanged for a link."""
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
    # A pipe would be waited for.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    with open(os.open(file, flags, dir_fd=folder), "rb") as source:
        if not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
            raise InputError(f"{name}/{file} is no plain file.")
        with open(target, "wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
