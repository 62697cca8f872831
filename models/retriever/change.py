"""Changing an index, be it a folder or a collection in Milvus."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from models.retriever import (
    index_files,
    milvus_check,
    milvus_lease,
    milvus_sync,
    milvus_write,
    sync,
)
from models.retriever.address import IndexPlace, MilvusAddress
from models.retriever.build import Reading
from models.retriever.check import Finding, check
from models.retriever.image_index import ImageIndex
from models.retriever.index import Index
from models.retriever.manifest import read_manifest
from models.retriever.milvus_connection import connected
from models.retriever.milvus_index import MilvusIndex, described
from models.retriever.types import Encoder


@contextlib.contextmanager
def writing(place: IndexPlace, factory: str) -> Iterator[None]:
    """Keeps other writers of a folder out; a collection is built under a name of its own.

    Args:
        factory: the kind of index that is to be built.

    Raises:
        InputError: another process is writing the index, or it cannot be built there.
        IndexDown: Milvus does not answer.
    """
    if isinstance(place, MilvusAddress):  # hours of encoding may follow: what fails, fails now
        milvus_write.kind_for(factory, 0)
        milvus_lease.served(connected(place))
        yield
    else:
        with index_files.writing(place):
            yield


@contextlib.contextmanager
def opened(place: IndexPlace) -> Iterator[ImageIndex | MilvusIndex]:
    """The index, which no one else can change meanwhile.

    Raises:
        InputError: there is none, or another process is writing it.
    """
    if isinstance(place, MilvusAddress):
        with milvus_lease.writing(place) as (connection, interrupted):
            manifest, _, _ = described(connection)
            index = MilvusIndex.open(place, manifest.encoder, strong=True)
            index.interrupted = interrupted
            yield index
        return
    encoder = read_manifest(place).encoder  # fails without making the folder
    with index_files.writing(place):
        yield ImageIndex.open(place, encoder)


def synced(
    index: ImageIndex | MilvusIndex,
    folder: Path | None,
    changes: sync.Changes,
    open_encoder: Callable[[], Encoder],
    reading: Reading,
) -> sync.Synced[ImageIndex] | sync.Synced[MilvusIndex]:
    """The index with these changes; in Milvus they are made at once.

    Raises:
        InputError: nothing would be left, or the index has no vectors to take along.
    """
    if isinstance(index, MilvusIndex):
        return milvus_sync.synced(index, folder, changes, open_encoder, reading)
    return sync.synced(index, folder, changes, open_encoder, reading)


def checked(
    place: IndexPlace, open_encoder: Callable[[], Encoder], sample: int
) -> Iterator[Finding]:
    """Proves an index.

    Raises:
        InputError: there is none.
    """
    if isinstance(place, MilvusAddress):
        return milvus_check.check_collection(place, open_encoder, sample)
    return check(place, open_encoder, sample)


def save(index: Index, place: IndexPlace, factory: str = "auto") -> list[tuple[str, str]]:
    """Writes an index, and returns the pictures that could not be, with the reasons.

    Args:
        factory: of Milvus's indexes, for a collection that is new.

    Raises:
        InputError: another process is writing the index.
        GrapeError: it cannot be written.
    """
    if isinstance(index, MilvusIndex):
        milvus_write.save(index)
        return []
    assert isinstance(index, ImageIndex)
    if isinstance(place, MilvusAddress):
        return milvus_write.copy(place, index, factory)
    index.save(place)
    return []
