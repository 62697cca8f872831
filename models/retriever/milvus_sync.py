"""Bringing a collection in Milvus up to date with its folder; ``sync.py`` compares the two.

Rows are written one batch after the other. If that is cut off, the next run takes over from what is
there, because it compares the rows themselves with the folder.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from models.common.errors import InputError
from models.retriever.build import Encoded, Reading, encode
from models.retriever.fields import Kind
from models.retriever.item_store import Item
from models.retriever.manifest import IndexManifest
from models.retriever.milvus_connection import WRITE_S
from models.retriever.milvus_filters import count_fields
from models.retriever.milvus_index import MilvusIndex
from models.retriever.milvus_lease import renew
from models.retriever.milvus_rows import Row, TooLong, numbers_in, row_of, together
from models.retriever.milvus_write import MOST_REMOVED, insert, save
from models.retriever.sync import Changes, Synced, with_old
from models.retriever.types import Encoder

_PAGE = 500
_PLAIN = Reading()


def synced(
    index: MilvusIndex,
    folder: Path | None,
    changes: Changes,
    open_encoder: Callable[[], Encoder],
    reading: Reading = _PLAIN,
) -> Synced[MilvusIndex]:
    """Writes these changes into the collection. Its manifest is not saved yet.

    Args:
        index: opened with strong consistency.

    Raises:
        InputError: nothing would be left.
    """
    encoded = Encoded([], np.zeros((0, index.manifest.encoder.dim), np.float32), [])
    if changes.new:
        assert folder is not None
        files = {picture_id: folder / path for picture_id, path in changes.new.items()}
        encoded = encode(files, folder, open_encoder(), with_old(index, changes.new, reading))
    if not changes.kept and not encoded.items:
        raise InputError("None of the pictures can be read; the index stays as it was.")
    skipped = list(encoded.skipped)
    notes, before = index.items.notes, index.manifest
    stored = dict(index.items.located())
    touched = [kept for kept in changes.kept if stored[kept.position] != kept.item]
    removed = notes.removed | {i.stamp.sha256: i.id for i in changes.removed if i.stamp}
    removed = dict(list(removed.items())[-MOST_REMOVED:])
    next_number = notes.next_number + len(encoded.items)
    index.items.notes = notes._replace(removed=removed, next_number=next_number)
    if encoded.items or changes.removed:
        save(index)  # if this is cut off, no number is used twice, and no old id is forgotten
    rows = _touched_rows(index, {kept.position: kept.item for kept in touched})
    new = _new_rows(encoded, notes.next_number, skipped)
    written = insert(index.items.connection, index.items.collection, _all(rows, new))
    # What was changed and cannot be read any more is out of date, and goes as in a folder.
    left = {kept.item.id for kept in changes.kept} | {item.id for item in encoded.items}
    gone = [item.id for item in stored.values() if item.id not in left]
    _delete(index, gone)
    index.manifest = _manifest(index, folder, reading)
    fields: dict[str, dict[Kind, int]] = {}
    for item in (*(kept.item for kept in changes.kept), *encoded.items):
        count_fields(fields, item.record)
    index.items.notes = index.items.notes._replace(fields=fields)
    return Synced(index, skipped, bool(written or gone) or index.manifest != before)


def _manifest(index: MilvusIndex, folder: Path | None, reading: Reading) -> IndexManifest:
    """What the rows are now."""
    before = index.manifest
    digests = [row["digest"] for row in index.items.all_rows(["number", "digest"])]
    total = together(digests)
    now = {
        "count": len(digests), "ids_sha256": total,
        "vectors": before.vectors.model_copy(update={"sha256": total}),
        "items": before.items.model_copy(update={"sha256": total}),
        "pictures": str(folder.resolve()) if folder else before.pictures,
        "scanned": reading.scanned or before.scanned,
    }  # fmt: skip
    return before.model_copy(update=now)


def _all(*parts: Iterable[Row]) -> Iterator[Row]:
    for part in parts:
        yield from part


def _touched_rows(index: MilvusIndex, items: dict[int, Item]) -> Iterator[Row]:
    """Pictures with other metadata, and the vectors that they have."""
    places = iter(items)
    while page := list(islice(places, _PAGE)):
        for row in index.items.rows(numbers_in(page), ["number", "vector"]):
            yield row_of(items[row["number"]], row["vector"], row["number"])


def _new_rows(encoded: Encoded, number: int, skipped: list[tuple[str, str]]) -> Iterator[Row]:
    for place, item in enumerate(encoded.items):
        try:
            yield row_of(item, encoded.vectors[place], number + place)
        except TooLong as error:
            skipped.append((item.id, str(error)))


def _delete(index: MilvusIndex, ids: Sequence[str]) -> None:
    for start in range(0, len(ids), _PAGE):
        page = list(ids[start : start + _PAGE])
        index.items.connection("delete", index.items.collection, ids=page, timeout=WRITE_S)
        renew(index.items.connection)
