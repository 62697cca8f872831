"""MilvusIndex: a collection in Milvus, searched as an index folder is.

The manifest is a property of the collection, and so is what else an index remembers. The address
names an alias: a collection that is built anew is whole before the alias names it.

What differs from a folder: a collection has no generations. A picture that is added or removed is
so for every server at once, within what the consistency level allows.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.common.errors import IndexDown, InputError
from models.retriever.address import MilvusAddress
from models.retriever.facets import Facet
from models.retriever.filters import Filter
from models.retriever.image_index import ImageIndex
from models.retriever.index import REACHED
from models.retriever.item_store import Item, ItemStore
from models.retriever.manifest import (
    Effort,
    EncoderFingerprint,
    IndexManifest,
    IndexOptions,
    parse_manifest,
    require_same,
)
from models.retriever.milvus_connection import Connection, connected
from models.retriever.milvus_filters import EVERYTHING, expression
from models.retriever.milvus_items import ITEM, WHOLE_UP_TO, MilvusChosen, MilvusItems, Notes
from models.retriever.milvus_rows import item_of, numbers_in
from models.retriever.shard_pictures import InShard, in_shard, own_file
from models.retriever.types import Scored, Vectors

MANIFEST_PROPERTY = "grape.manifest"
NOTES_PROPERTY = "grape.notes"
_ROWS_AT_ONCE = 2**17  # of all searches in one call: an answer has 64 MB at most


class MilvusIndex:
    """The pictures of a collection, bound to one encoder. Searching is thread-safe."""

    distant = True

    def __init__(self, manifest: IndexManifest, items: MilvusItems) -> None:
        self.manifest = manifest
        self.items = items
        self.interrupted = False  # whether the last writer did not save its manifest

    @classmethod
    def open(
        cls, address: MilvusAddress, encoder: EncoderFingerprint, strong: bool = False
    ) -> "MilvusIndex":
        """Opens an index with the encoder that built it.

        Args:
            strong: sees all that was ever written, whatever the address says.

        Raises:
            InputError: no such collection, none of ours, or one that another encoder built.
            IndexDown: Milvus does not answer.
        """
        connection = connected(address)
        manifest, notes, collection = described(connection)
        require_same(address, manifest.encoder, encoder)
        level = "strong" if strong else address.consistency
        wishes: dict[str, Any] = {"consistency_level": level.capitalize()} if level else {}
        items = MilvusItems(connection, collection, wishes)
        items.notes = notes
        return cls(manifest, items)

    def __len__(self) -> int:
        return self.manifest.count

    def position(self, picture_id: str) -> int | None:
        rows = self.items.connection(
            "query", self.items.collection, ids=[picture_id], output_fields=["number"],
            **self.items.wishes,
        )  # fmt: skip
        return int(rows[0]["number"]) if rows else None

    def some(self, count: int) -> list[Item]:
        return [item_of(row) for row in self.items.rows(EVERYTHING, ITEM, count)]

    def vector(self, position: int) -> Vectors:
        rows = self.items.rows(numbers_in([position]), ["vector"])
        if not rows:
            raise IndexDown("The picture has just been removed from the index: search again.")
        return np.asarray(rows[0]["vector"], np.float32)

    def picture(self, position: int) -> Path | InShard | None:
        item = self.items.found([position]).get(position)
        if item is None:
            return None
        folder = self.manifest.pictures
        return own_file(folder, item.record) or in_shard(folder, item.record)

    def select(self, chosen: Filter) -> MilvusChosen:
        return MilvusChosen(self.items, expression(chosen, self.items.notes.fields))

    def listed(self, chosen: MilvusChosen | None = None) -> Sequence[int]:
        return self.items.numbers(chosen.condition if chosen else EVERYTHING)

    def facets(self) -> list[Facet]:
        return []  # Milvus counts no values

    def score(
        self,
        queries: Vectors,
        most: int = REACHED,
        chosen: Sequence[MilvusChosen | None] | None = None,
        effort: Sequence[Effort | None] | None = None,
    ) -> list[Scored]:
        if len(self) <= WHOLE_UP_TO:
            most = WHOLE_UP_TO
        conditions = [
            "" if one is None else one.condition for one in chosen or [None] * len(queries)
        ]
        wishes = list(zip(conditions, effort or [None] * len(queries), strict=True))
        results: dict[int, Scored] = {}
        for wish in dict.fromkeys(wishes):  # one call for all that share a filter and an effort
            rows = [row for row, own in enumerate(wishes) if own == wish]
            results |= zip(rows, self._best(queries[rows], most, *wish), strict=True)
        return [results[row] for row in range(len(queries))]

    def _best(
        self, queries: Vectors, most: int, condition: str, effort: Effort | None
    ) -> list[Scored]:
        found: list[Scored] = []
        step = max(_ROWS_AT_ONCE // min(most, max(len(self), 1)), 1)
        for start in range(0, len(queries), step):
            answers = self.items.connection(
                "search", self.items.collection, data=list(queries[start : start + step]),
                filter=condition, limit=most, output_fields=["number"],
                search_params=search_params(self.manifest, effort, most), **self.items.wishes,
            )  # fmt: skip
            found += map(_scored, answers)
        return found

    def learn_known_scores(self, queries: Vectors) -> None:
        best = [scored.cosines.max() for scored in self.score(queries, 1) if len(scored.cosines)]
        if best:
            scores = np.percentile(best, np.arange(101)).round(4).tolist()
            self.manifest = self.manifest.model_copy(update={"known_scores": tuple(scores)})

    def local(self) -> ImageIndex:
        """A copy of the whole collection in memory, which compares every vector."""
        rows = list(self.items.all_rows([*ITEM, "stamp", "vector"]))
        notes, manifest = self.items.notes, self.manifest
        vectors = np.array([row["vector"] for row in rows], np.float32)
        items = ItemStore.build(map(item_of, rows), notes.removed.items(), notes.known_queries)
        vectors = vectors.reshape(len(rows), manifest.encoder.dim)
        copy = ImageIndex.made(vectors, items, manifest.encoder, IndexOptions())
        kept = manifest.model_dump(include={"known_scores", "known_from", "credit", "pictures"})
        kept |= {"vectors": manifest.vectors}
        copy.manifest = copy.manifest.model_copy(update=kept)
        return copy


def described(connection: Connection) -> tuple[IndexManifest, Notes, str]:
    """The manifest of the collection that an address names, its notes, and its own name.

    Raises:
        InputError: there is no such collection, or it is none of ours.
    """
    address = connection.address
    told = connection("describe_collection", address.collection)
    properties = told.get("properties") or {}
    content = properties.get(MANIFEST_PROPERTY)
    if not content:
        raise InputError(
            f"The collection {address.collection} in Milvus at {address.uri} is no index of grape: "
            f"build one under another name with `grape index build PICTURES/ --out ...`."
        )
    manifest = parse_manifest(address, content.encode())
    try:
        notes = Notes.unpacked(properties[NOTES_PROPERTY])
    except (KeyError, ValueError, TypeError, zlib.error) as error:
        raise InputError(f"The index {address} is broken ({error}): build it again.") from error
    return manifest, notes, manifest.vectors.name


def manifest_at(address: MilvusAddress) -> IndexManifest:
    """The manifest of a collection, without opening it.

    Raises:
        InputError: there is no such collection, or it is none of ours.
        IndexDown: Milvus does not answer.
    """
    return described(connected(address))[0]


def consistency_of(address: MilvusAddress) -> str:
    """How fresh a search in a collection is: ``strong``, ``bounded``, ``session``, ...

    Raises:
        InputError: there is no such collection.
        IndexDown: Milvus does not answer.
    """
    if address.consistency:
        return address.consistency
    told = connected(address)("describe_collection", address.collection)
    return str(told["consistency_level_name"]).lower()


def search_params(manifest: IndexManifest, effort: Effort | None, most: int) -> dict[str, Any]:
    """How much of a collection one search looks at."""
    own = manifest.effort or Effort()
    wished = effort or own
    if manifest.factory.startswith("IVF"):
        return {"params": {"nprobe": wished.nprobe or own.nprobe or 16}}
    if manifest.factory == "HNSW":  # its queue must hold all that is asked for
        return {"params": {"ef": max(wished.ef_search or own.ef_search or 0, most)}}
    return {}


def _scored(hits: Any) -> Scored:
    found = [(hit["entity"]["number"], hit["distance"]) for hit in hits]
    numbers = np.array([number for number, _ in found], np.int64)
    cosines = np.array([cosine for _, cosine in found], np.float32)
    order = np.argsort(numbers)
    return Scored(numbers[order], cosines[order])
