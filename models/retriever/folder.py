"""What is in a folder of pictures: what can be indexed, and what is left out and why."""

import fnmatch
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from models.common.errors import InputError
from models.retriever.excluded import EXCLUDED
from models.retriever.pictures import suffixes


class LeftOut(NamedTuple):
    """A file or a folder that is not indexed."""

    path: str  # below the folder
    kind: str  # counted together
    reason: str = ""  # what else there is to say


class Scan(NamedTuple):
    """What a folder holds."""

    pictures: dict[str, os.stat_result]  # by path below the folder, in its order
    others: frozenset[str]  # files that may belong to a picture, such as captions
    left_out: list[LeftOut]

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Folders of which nothing is known, each with a slash behind it."""
        return tuple(f"{path}/" for path, kind, _ in self.left_out if kind == UNREADABLE)

    def counts(self) -> Counter[str]:
        """How much was left out, by kind."""
        return Counter(left.kind for left in self.left_out)


UNREADABLE = "unreadable folder"
_SIDECARS = (".txt", ".xmp", ".json")


def sidecars_of(path: str) -> list[str]:
    """Files that may say something about a picture; a later one counts more."""
    stem = os.path.splitext(path)[0]
    return [f"{stem}.txt", f"{stem}.xmp", f"{stem}.json", f"{path}.xmp", f"{path}.json"]


def scan(folder: Path, exclude: Sequence[str] = EXCLUDED) -> Scan:
    """Finds the pictures below a folder, by their suffix.

    Args:
        exclude: patterns with ``*`` and ``?`` for the name of a file or folder, or for its path
            below the folder. Case does not count.

    Raises:
        InputError: the folder does not exist, cannot be read, or contains no picture.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: name one that contains pictures.")
    patterns = [pattern.casefold().strip("/") for pattern in exclude]
    found = Scan({}, frozenset(), [])
    others: set[str] = set()
    for entry in _walk(folder, "", patterns, found.left_out):
        path = os.path.relpath(entry.path, folder)
        suffix = os.path.splitext(path)[1].lower()
        left = _left_out(entry, folder, suffix)
        if left:
            found.left_out.append(LeftOut(path, left))
        elif suffix in _SIDECARS:
            others.add(path)
        else:
            found.pictures[path] = entry.stat()
    if not found.pictures:
        raise InputError(
            f"There is no picture in {folder}: looked for files ending in "
            f"{', '.join(sorted(suffixes()))}."
        )
    stems = {os.path.splitext(path)[0] for path in found.pictures} | found.pictures.keys()
    for path in sorted(others):
        stem, suffix = os.path.splitext(path)
        if stem not in stems:
            found.left_out.append(LeftOut(path, f"no picture format ({suffix.lower()})"))
    pictures = dict(sorted(found.pictures.items()))
    return Scan(pictures, frozenset(others), found.left_out)


def scan_files(folder: Path, files: Sequence[Path]) -> Scan:
    """Some files of a folder, with their sidecars.

    Raises:
        InputError: a file is missing, or not below the folder.
    """
    pictures: dict[str, os.stat_result] = {}
    others: set[str] = set()
    for file in files:
        path = file.resolve()
        if not path.is_file():
            raise InputError(f"{file} is not a file.")
        if not path.is_relative_to(folder):
            raise InputError(f"{file} is not in {folder}, the folder of the index's pictures.")
        name = path.relative_to(folder).as_posix()
        pictures[name] = path.stat()
        beside = map(Path, sidecars_of(str(path)))
        others |= {
            one.relative_to(folder).as_posix()
            for one in beside
            if one.is_file() and one.resolve().is_relative_to(folder)
        }
    return Scan(pictures, frozenset(others), [])


def _walk(
    folder: Path, below: str, patterns: list[str], left_out: list[LeftOut]
) -> Iterator["os.DirEntry[str]"]:
    """The files below a folder."""
    waiting = [below]
    while waiting:
        below = waiting.pop()
        try:
            entries = list(os.scandir(folder / below))
        except OSError as error:
            if not below:
                raise InputError(f"{folder} cannot be read ({error.strerror}).") from error
            left_out.append(LeftOut(below, UNREADABLE, error.strerror or ""))
            continue
        for entry in entries:
            path = f"{below}/{entry.name}" if below else entry.name
            if _matches(path, entry.name, patterns):
                left_out.append(LeftOut(path, "excluded"))
            elif entry.name.startswith("."):
                left_out.append(LeftOut(path, "hidden"))
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(path)
            elif os.path.isdir(entry.path):  # unlike the entry's own, it fails on no loop of links
                left_out.append(LeftOut(path, "linked folder", os.readlink(entry.path)))
            else:
                yield entry


def _matches(path: str, name: str, patterns: list[str]) -> bool:
    name, path = name.casefold(), path.casefold()
    return any(
        fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(path, pattern)
        for pattern in patterns
    )


def _left_out(entry: "os.DirEntry[str]", folder: Path, suffix: str) -> str:
    """Why a file is neither a picture nor a sidecar that can be read; empty if it is one."""
    if suffix not in suffixes() and suffix not in _SIDECARS:
        return f"no picture format ({suffix or 'no suffix'})"
    try:
        left = _unusable(entry, folder)
        if not left:
            entry.stat()  # which the entry keeps
    except OSError as error:  # it has just been deleted, for one
        return f"unreadable file ({error.strerror})"
    return left


def _unusable(entry: "os.DirEntry[str]", folder: Path) -> str:
    """Why a file with the suffix of a picture is none that can be served."""
    if entry.is_symlink():
        target = Path(entry.path).resolve()
        if not target.is_relative_to(folder.resolve()):
            return "link out of the folder"
        if not target.exists():
            return "broken link"
    return "" if entry.is_file() else "no regular file"
