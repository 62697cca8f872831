"""Bringing an index up to date with its folder: only what is new is encoded.

A picture whose size and time of change are the same is the same. Of others the content is compared:
one that only moved keeps its id and its vector.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import faiss
import numpy as np

from models.common.errors import InputError
from models.retriever import faiss_index
from models.retriever.build import Reading, encode, stamp_of
from models.retriever.folder import Scan
from models.retriever.image_index import ImageIndex
from models.retriever.index import Index
from models.retriever.item_store import Item, ItemStore, Stamp
from models.retriever.manifest import IndexOptions
from models.retriever.search_effort import use
from models.retriever.types import SHARD, Encoder, Metadata, Vectors

Made = TypeVar("Made")

_PLAIN = Reading()
_REMEMBERED = 100_000  # ids of removed pictures


class Kept(NamedTuple):
    """A picture that keeps its vector."""

    position: int  # of the vector in the old index
    item: Item


class Changes(NamedTuple):
    """What becomes of an index. The pictures that stay keep their order; new ones follow."""

    kept: list[Kept]
    new: dict[str, str]  # id to path below the folder; it may be the id of a changed picture
    removed: list[Item]
    changed: int = 0  # new content under the same path; they are among ``new``
    renamed: int = 0
    touched: int = 0  # metadata, times or names that changed without a new vector

    def __bool__(self) -> bool:
        return bool(self.new or self.removed or self.renamed or self.touched)


@dataclass(frozen=True)
class Synced(Generic[Made]):
    """An index that is not saved yet, and the pictures that could not be read."""

    index: Made
    skipped: list[tuple[str, str]]
    differs: bool  # from the one before


def compare(
    index: Index,
    folder: Path,
    found: Scan,
    reading: Reading = _PLAIN,
) -> Changes:
    """What has changed in a folder since the index was built or synchronised.

    Pictures without a file stay, and so does what is in a folder that cannot be read.

    Raises:
        InputError: none of the pictures is there any more. Then it is another folder, or a disk
            that is not mounted.
    """
    elsewhere = index.manifest.pictures not in (None, str(folder.resolve()))
    plan = _Plan(folder, found, reading, index.items.removed)
    for position, item in index.items.located():
        if elsewhere and SHARD in item.record:
            where = index.manifest.pictures
            raise InputError(f"The index is of shards in {where}: build another one of {folder}.")
        plan.add(position, item)
    changes = plan.changes()
    if changes.removed and not changes.kept and not changes.changed:
        raise InputError(
            f"None of the {len(index)} pictures of the index is in {folder}: is it the right "
            "folder, and is its disk mounted? If so, build a new index."
        )
    return changes


def without(index: Index, ids: Iterable[str]) -> Changes:
    """The removal of pictures by their ids.

    Raises:
        InputError: the index has no such picture, or no other ones.
    """
    gone = set(ids)
    unknown = sorted(gone - {name for name in gone if index.position(name) is not None})
    if unknown:
        raise InputError(f"There is no picture {unknown[0]!r} in the index.")
    items = list(index.items.located())
    kept = [Kept(position, item) for position, item in items if item.id not in gone]
    if not kept:
        raise InputError("These are all of the index's pictures: delete its folder instead.")
    return Changes(kept, {}, [item for _, item in items if item.id in gone])


def added(index: Index, folder: Path, found: Scan, reading: Reading = _PLAIN) -> Changes:
    """The addition of some pictures of the folder, or of their new content.

    Args:
        found: those pictures alone; all others stay.
    """
    plan = _Plan(folder, found, reading, index.items.removed)
    for position, item in index.items.located():
        if item.record.get("file") in found.pictures:
            plan.add(position, item)
        else:
            plan.keep(position, item)
    return plan.changes()


def pictures_folder(index: Index) -> Path:
    """The folder that the index was built from.

    Raises:
        InputError: it was built from something else.
    """
    if index.manifest.pictures is None:
        raise InputError("The index has no folder of pictures: build one from a folder.")
    return Path(index.manifest.pictures)


def synced(
    index: ImageIndex,
    folder: Path | None,
    changes: Changes,
    open_encoder: Callable[[], Encoder],
    reading: Reading = _PLAIN,
) -> Synced[ImageIndex]:
    """The index with these changes. The encoder is opened only if there is something to encode.

    Raises:
        InputError: the index has no vectors to take along.
    """
    items = [kept.item for kept in changes.kept]
    places = [kept.position for kept in changes.kept]
    vectors = np.zeros((0, index.manifest.encoder.dim), np.float32)
    skipped: list[tuple[str, str]] = []
    if changes.new:
        assert folder is not None
        files = {picture_id: folder / path for picture_id, path in changes.new.items()}
        encoded = encode(files, folder, open_encoder(), with_old(index, changes.new, reading))
        items += encoded.items
        vectors, skipped = encoded.vectors, encoded.skipped
    if not items:
        raise InputError("None of the pictures can be read; the index stays as it was.")
    removed = index.items.removed
    removed |= {item.stamp.sha256: item.id for item in changes.removed if item.stamp}
    newest = list(removed.items())[-_REMEMBERED:]
    store = ItemStore.build(items, newest, index.items.known_queries)
    old = index.manifest
    pictures = folder or (Path(old.pictures) if old.pictures else None)
    scanned = reading.scanned or old.scanned
    options = IndexOptions(old.factory, pictures, old.credit, scanned)
    together = _vectors(index, places, vectors)
    use(together, old.effort)
    changed = ImageIndex.of(together, store, old.encoder, options)
    known = old.model_dump(include={"known_scores", "known_from", "recall"})
    known["effort"] = old.effort
    changed.manifest = changed.manifest.model_copy(update=known)
    # What is new may all be unreadable, and be so again the next time.
    same = places == list(range(len(index))) and not len(vectors)
    moved = (old.pictures, old.scanned) != (changed.manifest.pictures, scanned)
    differs = not same or bool(changes.renamed or changes.touched) or moved
    return Synced(changed, skipped, differs)


def with_old(index: Index, new: dict[str, str], reading: Reading) -> Reading:
    """What was known of a changed picture stays known, unless its metadata says otherwise."""
    positions = {path: index.position(picture_id) for picture_id, path in new.items()}
    known = {path: place for path, place in positions.items() if place is not None}

    def record_of(path: str, described: Metadata) -> Metadata:
        old = index.items.found([known[path]])[known[path]].record if path in known else {}
        return {**old, **reading.record_of(path, described)}

    return reading._replace(record_of=record_of)


def _vectors(index: ImageIndex, places: list[int], added: Vectors) -> faiss.Index:
    if places == list(range(len(index))):
        return faiss_index.extended(index.faiss, added) if len(added) else index.faiss
    if not faiss_index.keeps_vectors(index.faiss):
        raise InputError(
            f"The index stores its vectors compressed ({index.manifest.factory}), so pictures can "
            "be added to it but not removed or moved: build it again."
        )
    kept = index.vectors()[np.array(places, np.int64)]
    together = np.concatenate([kept, added])
    return faiss_index.make(together, index.manifest.encoder.dim, index.manifest.factory)


class _Plan:
    """Matches the pictures of an index with the files of a folder."""

    def __init__(
        self, folder: Path, found: Scan, reading: Reading, removed: dict[str, str]
    ) -> None:
        self._folder = folder
        self._found = found
        self._record_of = reading.record_of
        self._back = removed  # ids by content
        self._kept: dict[int, Item] = {}  # by position
        self._missing: dict[int, Item] = {}  # likewise: not there, or with other content
        self._seen: set[str] = set()  # paths that are accounted for
        self._stamps: dict[str, Stamp] = {}
        self._touched = 0

    def add(self, position: int, item: Item) -> None:
        path = item.record.get("file")
        if not isinstance(path, str) or path.startswith(self._found.unreadable):
            self.keep(position, item)
            return
        status = self._found.pictures.get(path)
        if status is None or path in self._seen:
            self._missing[position] = item
            return
        stamp = item.stamp
        if stamp and (stamp.size, stamp.mtime_ns) == (status.st_size, status.st_mtime_ns):
            self._keep(position, item, path, stamp)
            return
        now = self._stamp(path)
        if now is None:  # it cannot be read now, and may be again the next time
            self._seen.add(path)
            self.keep(position, item)
        elif stamp and now.sha256 != stamp.sha256:
            self._missing[position] = item
        else:
            self._keep(position, item, path, now)

    def keep(self, position: int, item: Item) -> None:
        """A picture that stays whatever has become of its file."""
        self._kept[position] = item

    def changes(self) -> Changes:
        left = [path for path in self._found.pictures if path not in self._seen]
        by_content: dict[str, list[int]] = {}
        for position, item in self._missing.items():
            if item.stamp:
                by_content.setdefault(item.stamp.sha256, []).append(position)
        new: list[str] = []
        renamed = 0
        for path in left:
            stamp = self._stamp(path)
            same = by_content.get(stamp.sha256) if stamp else None
            if same and stamp:
                position = same.pop(0)
                self._keep(position, self._missing.pop(position), path, stamp)
                renamed += 1
            else:
                new.append(path)
        ids, changed = self._ids(new)
        kept = [Kept(position, self._kept[position]) for position in sorted(self._kept)]
        removed = [item for item in self._missing.values() if item.id not in ids]
        return Changes(kept, ids, removed, changed, renamed, self._touched - renamed)

    def _ids(self, paths: list[str]) -> tuple[dict[str, str], int]:
        """An id for each new file, and how many of them are changed pictures."""
        by_path = {item.record["file"]: item.id for item in self._missing.values()}
        taken = {item.id for item in self._kept.values()}
        ids: dict[str, str] = {}
        for path in paths:
            stamp = self._stamp(path)
            content = stamp.sha256 if stamp else ""
            names = (by_path.get(path), self._back.get(content), path, f"{path}~{content[:8]}")
            more = (f"{path}~{number}" for number in count(2))
            picture_id = next(name for name in chain(names, more) if name and name not in taken)
            taken.add(picture_id)
            ids[picture_id] = path
        return ids, sum(path in by_path for path in paths)

    def _keep(self, position: int, item: Item, path: str, stamp: Stamp) -> None:
        record = {**item.record, **self._record_of(path, {}), "file": path}
        fresh = Item(item.id, record, stamp)
        self._touched += fresh != item
        self._kept[position] = fresh
        self._seen.add(path)

    def _stamp(self, path: str) -> Stamp | None:
        """Size, time and content of a file; None if it cannot be read."""
        if path not in self._stamps:
            try:
                self._stamps[path] = stamp_of(self._folder / path)
            except OSError:
                return None
        return self._stamps[path]
