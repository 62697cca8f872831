"""Repositories of the model hub: by name and revision, fetched once, checked, and found offline.

Nothing is fetched that the user has not named. What was fetched is used from then on: a commit's
hash needs no hub at all, and without a hub a branch is what it was when it was last asked for.
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from models.common.errors import GrapeError, InputError
from models.common.hub_progress import byte_bar, quiet, silent_bar, size
from models.common.hub_transfer import LARGE, DamagedFile, checksum, continue_file
from models.common.progress import say

_NAME = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?)(?:@(?P<revision>[\w./-]+))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SNAPSHOT = re.compile(r"models--([^/]+)/snapshots/([0-9a-f]{40})")
_SPARE = 2**28  # bytes of disk that stay free
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


class Lookup(NamedTuple):
    """A repository before a download."""

    folder: Path | None  # if everything is here
    bytes: int  # of all files
    download: int  # of those that are not here

    def __str__(self) -> str:
        if self.folder:
            return f"{size(self.bytes)} in {self.folder}"
        return f"{size(self.download)} to download"


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


def missing(repository: Repository, patterns: Sequence[str]) -> list[Any]:
    """The files that would be downloaded, each with its ``file_size``.

    Asks the hub, and fetches nothing.

    Raises:
        InputError, GrapeError: as :func:`fetch`.
    """
    return [file for file in _listed(repository, patterns) if file.will_download]


def look_up(repository: Repository, patterns: Sequence[str]) -> Lookup:
    """What is here of a repository, and what would be downloaded. Fetches nothing.

    Raises:
        InputError, GrapeError: as :func:`fetch`.
    """
    from huggingface_hub import constants

    if folder := cached(repository, patterns):
        return Lookup(folder, sum(path.stat().st_size for path in folder.rglob("*.*")), 0)
    if constants.HF_HUB_OFFLINE:
        _offline(repository, patterns)
    sizes = [(file.file_size or 0, file.will_download) for file in _listed(repository, patterns)]
    return Lookup(None, sum(count for count, _ in sizes), sum(count for count, new in sizes if new))


def fetch(repository: Repository, patterns: Sequence[str]) -> Path:
    """The folder of a repository's files, downloaded if they are not on this machine.

    An interrupted download is continued. New files are compared with the hub's checksums.

    Args:
        patterns: of the files, as in a shell.

    Raises:
        InputError: no such repository, revision or file, or its terms are not accepted.
        GrapeError: the hub cannot be reached, the disk is full, or what arrived is damaged.
    """
    if _is_listed(repository) and (folder := cached(repository, patterns)):
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
    total = sum(file.file_size for file in left)
    if left:
        _require_disk(repository, total)
        say(f"Fetching {repository} from {constants.ENDPOINT}, {size(total)}")
    before, bar = _blobs(repository), byte_bar(total) if left else silent_bar()
    with _told(repository), quiet():
        for file in left:
            if file.file_size >= LARGE:
                continue_file(repository.name, file, _blob_folder(repository), bar)
        folder = Path(snapshot_download(**_asked(repository, patterns), tqdm_class=bar))
    _verify(repository, _blobs(repository) - before)
    return folder


def _is_listed(repository: Repository) -> bool:
    """Whether it is known here which files the commit has; without that, some may be missing."""
    listing = _blob_folder(repository).with_name("trees") / f"{repository.revision}.json"
    return repository.is_pinned and listing.is_file()


def _listed(repository: Repository, patterns: Sequence[str]) -> list[Any]:
    """The files at the hub, as its library describes them."""
    from huggingface_hub import snapshot_download

    with _told(repository), quiet():
        return list(
            snapshot_download(**_asked(repository, patterns), dry_run=True, tqdm_class=silent_bar())
        )


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
    except DamagedFile as error:
        raise _damaged(repository) from error
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


def _blob_folder(repository: Repository) -> Path:
    from huggingface_hub import constants

    folder = f"models--{repository.name.replace('/', '--')}"
    return Path(constants.HF_HUB_CACHE) / folder / "blobs"


def _blobs(repository: Repository) -> set[Path]:
    """The whole files of a repository, each named by its checksum."""
    return {path for path in _blob_folder(repository).glob("*") if not path.suffix}


def _verify(repository: Repository, new: set[Path]) -> None:
    """Compares new files with their names; large ones were compared before they had them."""
    for path in sorted(new):
        if path.stat().st_size < LARGE and checksum(path, path.name) != path.name:
            path.unlink()
            raise _damaged(repository)


def _damaged(repository: Repository) -> GrapeError:
    return GrapeError(
        f"A file of {repository} arrived damaged and was deleted: run the command again."
    )
