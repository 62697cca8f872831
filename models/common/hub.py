"""Repositories of the model hub: by name and revision, fetched once, checked, and found offline.

Nothing is fetched that the user has not named. What was fetched is used from then on: a commit's
hash needs no hub at all, and without a hub a branch is what it was when it was last asked for.
"""

import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from models.common.errors import GrapeError, InputError
from models.common.progress import say

_NAME = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?)(?:@(?P<revision>[\w./-]+))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SNAPSHOT = re.compile(r"models--([^/]+)/snapshots/([0-9a-f]{40})")
_GIB = 2**30
_SPARE = 2**28  # bytes of disk that stay free
_PLAIN_EVERY_S = 5.0
# Copies of the weights in other formats.
_OTHER_FORMATS = ("original/*", "onnx/*", "openvino/*", "consolidated*.safetensors", "*/*/*")


class Repository(NamedTuple):
    """A repository on the hub, at a revision: a branch, a tag or a commit."""

    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, which never changes."""
        return bool(self.revision and _COMMIT.fullmatch(self.revision))


class Missing(NamedTuple):
    """What a download would bring."""

    bytes: int
    files: int


def parse(spec: str) -> Repository:
    """Reads ``NAME`` or ``OWNER/NAME``, either with ``@REVISION``.

    Raises:
        InputError: it cannot be a name on the hub.
    """
    found = _NAME.fullmatch(spec)
    if found is None or ".." in spec or "--" in found["name"]:
        raise InputError(
            f"{spec!r} is neither a folder nor a name on the hub: write it like OWNER/NAME or "
            "OWNER/NAME@REVISION."
        )
    return Repository(found["name"], found["revision"])


def commit_of(path: Path) -> str | None:
    """The commit of a file or folder in the hub's cache; None elsewhere."""
    found = _SNAPSHOT.search(path.as_posix())
    return found[2] if found else None


def shown(path: str) -> str:
    """The name of what lies in the hub's cache; any other path as it is."""
    found = _SNAPSHOT.search(path)
    return f"{found[1].replace('--', '/')}@{found[2][:12]}" if found else path


def cached(repository: Repository, patterns: Sequence[str]) -> Path | None:
    """The folder of what was fetched before, if it is whole. Asks nobody."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(**_asked(repository, patterns), local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):
        return None


def missing(repository: Repository, patterns: Sequence[str]) -> Missing:
    """What would be downloaded. Asks the hub, and fetches nothing.

    Raises:
        InputError, GrapeError: as :func:`fetch`.
    """
    from huggingface_hub import snapshot_download

    with _told(repository), _quiet():
        listed = snapshot_download(
            **_asked(repository, patterns), dry_run=True, tqdm_class=_silent_bar()
        )
    left = [file.file_size for file in listed if file.will_download]
    return Missing(sum(left), len(left))


def fetch(repository: Repository, patterns: Sequence[str]) -> Path:
    """The folder of a repository's files, downloaded if they are not on this machine.

    An interrupted download is continued. New files are compared with the hub's checksums.

    Args:
        patterns: of the files, as in a shell.

    Raises:
        InputError: no such repository, revision or file, or its terms are not accepted.
        GrapeError: the hub cannot be reached, the disk is full, or what arrived is damaged.
    """
    if repository.is_pinned and (folder := cached(repository, patterns)):
        return folder
    from huggingface_hub import constants, snapshot_download

    if constants.HF_HUB_OFFLINE:
        return _offline(repository, patterns)
    try:
        left = missing(repository, patterns)
    except _Unreachable as error:
        folder = cached(repository, patterns)
        if folder is None:
            raise
        say(f"{error} What was fetched of {repository} before is used.")
        return folder
    if left.files:
        _require_disk(repository, left.bytes)
        say(f"Fetching {repository} from {constants.ENDPOINT}, {size(left.bytes)}")
    before = _blobs(repository)
    with _told(repository), _quiet():
        folder = Path(snapshot_download(**_asked(repository, patterns), tqdm_class=_bar(left)))
    _verify(repository, _blobs(repository) - before)
    return folder


def size(count: float) -> str:
    """Bytes for people."""
    return f"{count / _GIB:.1f} GiB" if count >= _GIB / 10 else f"{count / 2**20:.1f} MiB"


class _Unreachable(GrapeError):
    """There is no hub at the address, or no network."""


def _asked(repository: Repository, patterns: Sequence[str]) -> dict[str, Any]:
    from huggingface_hub import constants

    return {
        "repo_id": repository.name,
        "revision": repository.revision,
        "cache_dir": constants.HF_HUB_CACHE,
        "allow_patterns": list(patterns),
        "ignore_patterns": list(_OTHER_FORMATS),
    }


def _offline(repository: Repository, patterns: Sequence[str]) -> Path:
    from huggingface_hub import constants

    if folder := cached(repository, patterns):
        return folder
    raise GrapeError(
        f"{repository} is not in {constants.HF_HUB_CACHE}, or not whole, and HF_HUB_OFFLINE "
        "switches the hub off: unset it, or name a folder."
    )


@contextmanager
def _told(repository: Repository) -> Iterator[None]:
    """Raises our own errors for those of the hub's library."""
    import httpx

    try:
        yield
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise _translated(repository, error) from error


def _translated(repository: Repository, error: BaseException | None) -> GrapeError:
    """The sentence for an error of the hub's library."""
    import httpx
    from huggingface_hub import constants, errors

    hub = constants.ENDPOINT
    if isinstance(error, errors.GatedRepoError):
        return InputError(
            f"{repository.name} is gated: accept its terms at {hub}/{repository.name}, and set "
            "HF_TOKEN to a token of the account that did."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return InputError(
            f"{repository.name} has no revision {repository.revision!r}: {hub}/{repository.name} "
            "lists its branches and commits."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return InputError(
            f"The hub {hub} has no {repository.name}: look at the name; if it is private, set "
            "HF_TOKEN."
        )
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403):
            return InputError(f"The hub refuses {repository.name} ({status}): look at HF_TOKEN.")
        return _Unreachable(f"The hub answers {status} for {repository}: try again later.")
    if isinstance(error, errors.DryRunError | errors.LocalEntryNotFoundError) and error.__cause__:
        return _translated(repository, error.__cause__)
    if error is None or isinstance(
        error, httpx.HTTPError | errors.DryRunError | errors.LocalEntryNotFoundError
    ):
        return _Unreachable(
            f"The hub {hub} cannot be reached for {repository}: go online, or name a folder."
        )
    if isinstance(error, ValueError):
        return InputError(f"{repository} cannot be downloaded: {_first_line(error)}")
    reason = getattr(error, "strerror", None) or _first_line(error)
    return GrapeError(f"{repository} cannot be downloaded: {reason}.")


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _require_disk(repository: Repository, needed: int) -> None:
    """Raises :class:`GrapeError` if the download does not fit on the disk."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE).absolute()
    there = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    free = shutil.disk_usage(there).free
    if free < needed + _SPARE:
        raise GrapeError(
            f"{repository} takes {size(needed)} in {folder}, and {size(free)} are free: free "
            f"{size(needed + _SPARE - free)}, or name another folder in HF_HOME."
        )


def _repository_folder(repository: Repository) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{repository.name.replace('/', '--')}"


def _blobs(repository: Repository) -> set[Path]:
    """The whole files of a repository, each named by its checksum."""
    folder = _repository_folder(repository) / "blobs"
    return {path for path in folder.glob("*") if path.suffix != ".incomplete"}


def _verify(repository: Repository, new: set[Path]) -> None:
    """Compares new files with their names: sha256 of large ones, git's hash of others."""
    for path in sorted(new):
        if _checksum(path) != path.name:
            path.unlink()
            raise GrapeError(
                f"A file of {repository} arrived damaged and was deleted: run the command again."
            )


def _checksum(path: Path) -> str:
    with open(path, "rb") as file:
        if len(path.name) == len(hashlib.sha256().hexdigest()):
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha1(b"blob %d\0" % os.path.getsize(path))
        while chunk := file.read(2**20):
            digest.update(chunk)
        return digest.hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's own warnings, such as that there is no token."""
    from huggingface_hub.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _silent_bar() -> Any:
    """The library's bar without anything drawn."""
    from tqdm.auto import tqdm

    class Silent(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})

    return Silent


def _bar(left: Missing) -> Any:
    """The library's bar on a terminal; elsewhere a plain line from time to time."""
    if sys.stderr.isatty():
        return None

    class PlainLines(_silent_bar()):  # type: ignore[misc]
        received = 0
        said = time.monotonic()

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._transfers = kwargs.get("desc") == "Downloading bytes"
            super().__init__(*args, **kwargs)

        def update(self, n: float | None = 1) -> bool | None:
            cls = type(self)
            if self._transfers:
                cls.received += int(n or 0)
                if time.monotonic() - cls.said > _PLAIN_EVERY_S:
                    cls.said = time.monotonic()
                    say(f"Fetching: {size(cls.received)} of {size(left.bytes)}")
            return None

    return PlainLines
