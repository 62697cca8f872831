"""Writing a collection in Milvus.

A build writes a collection under a name of its own. Then the alias, which is what an address names,
goes from the old one to it. So readers see the old index or the new one, each of them whole.
"""

import contextlib
import secrets
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from models.common.errors import InputError
from models.retriever.address import MilvusAddress
from models.retriever.image_index import ImageIndex
from models.retriever.item_store import Item
from models.retriever.manifest import Effort, IndexManifest
from models.retriever.milvus_connection import WRITE_S, Connection
from models.retriever.milvus_filters import EVERYTHING, count_fields
from models.retriever.milvus_index import MANIFEST_PROPERTY, NOTES_PROPERTY, MilvusIndex
from models.retriever.milvus_items import MilvusItems, Notes
from models.retriever.milvus_lease import renew, served, writing
from models.retriever.milvus_rows import Row, TooLong, row_of, schema, together
from models.retriever.search_effort import AUTO, EXACT_UP_TO, RECALL
from models.retriever.types import Vectors

KINDS = ("FLAT", "HNSW", "IVF_FLAT", "IVF_SQ8")  # of Milvus's indexes, which --factory names
GRACE_S = 10.0  # servers on the old collection see within it that there is a new one
MOST_REMOVED = 1_000  # ids of removed pictures that fit into a property
_BATCH_BYTES = 8 * 2**20
_MOST_QUERIES = 2_000
_SAMPLE = 200
_K = 10


class Building:
    """A collection that is not served yet."""

    def __init__(self, connection: Connection, dim: int) -> None:
        self.connection = connection
        self.collection = create(connection, dim)
        self.skipped: list[tuple[str, str]] = []
        self.notes = Notes({}, {}, [], 0)
        self._digests: list[str] = []

    def write(self, pictures: Iterable[tuple[Item, Vectors]]) -> None:
        """Writes pictures behind those that were written before."""
        self._digests += insert(self.connection, self.collection, self._rows(pictures))

    def finished(self, manifest: IndexManifest, factory: str) -> MilvusIndex:
        """The index, which can be searched, and is served once it is published.

        Raises:
            InputError: two pictures have the same id, or there is no such kind of index.
        """
        count = len(self._digests)
        kind = kind_for(factory, count)
        if kind != "FLAT":  # an index is made of what is flushed; FLAT compares everything anyway
            self.connection("flush", self.collection, timeout=WRITE_S)
        items = MilvusItems(self.connection, self.collection, {"consistency_level": "Strong"})
        items.notes = self.notes
        effort, recall = _prepared(items, kind, count)
        if (rows := items.count()) != count:
            raise InputError(f"{count - rows} ids stand for several pictures; ids must be unique.")
        total = together(self._digests)
        now = {
            "count": count, "factory": kind, "effort": effort, "recall": recall,
            "ids_sha256": total, "items": manifest.items.model_copy(update={"sha256": total}),
            "vectors": manifest.vectors.model_copy(
                update={"name": self.collection, "sha256": total, "bytes": 0}
            ),
        }  # fmt: skip
        return MilvusIndex(manifest.model_copy(update=now), items)

    def publish(self, index: MilvusIndex) -> None:
        """Lets the address name this collection, and drops those that it named before.

        They stay for ten seconds: servers that search them look every two seconds.
        """
        save(index)
        call, alias = self.connection, self.connection.address.collection
        before = served(call)
        old = _owned(call) - {self.collection}
        if before is None:
            call("create_alias", self.collection, alias)
        else:
            call("alter_alias", self.collection, alias)
            time.sleep(GRACE_S)
        for name in old:
            call("drop_collection", name, timeout=WRITE_S)

    def _rows(self, pictures: Iterable[tuple[Item, Vectors]]) -> Iterator[Row]:
        for item, vector in pictures:
            try:
                row = row_of(item, vector, self.notes.next_number)
            except TooLong as error:
                self.skipped.append((item.id, str(error)))
                continue
            count_fields(self.notes.fields, item.record)
            self.notes = self.notes._replace(next_number=self.notes.next_number + 1)
            yield row


@contextlib.contextmanager
def building(address: MilvusAddress, dim: int) -> Iterator[Building]:
    """A new collection for an address; dropped if anything goes wrong before it is published.

    Raises:
        InputError: another process is writing the collection that there is.
    """
    with writing(address) as (connection, _):
        new = Building(connection, dim)
        try:
            yield new
        except BaseException:
            with contextlib.suppress(Exception):  # what went wrong before counts
                connection("drop_collection", new.collection)
            raise


def copy(address: MilvusAddress, index: ImageIndex, factory: str = AUTO) -> list[tuple[str, str]]:
    """Writes an index into a collection; returns the pictures that Milvus cannot hold, and why.

    Args:
        factory: FLAT, HNSW, IVF_FLAT or IVF_SQ8; ``auto`` chooses by the number of pictures.

    Raises:
        InputError: another process is writing, or there is no such kind of index.
    """
    kind_for(factory, 0)  # fails before anything is written
    with building(address, index.manifest.encoder.dim) as new:
        removed = dict(list(index.items.removed.items())[-MOST_REMOVED:])
        new.notes = new.notes._replace(removed=removed, known_queries=index.items.known_queries)
        new.write(zip(index.items.items(), index.vectors(), strict=True))
        new.publish(new.finished(index.manifest, factory))
    return new.skipped


def kind_for(factory: str, count: int) -> str:
    """Milvus's name of the index. Up to 50,000 pictures it compares every vector.

    Raises:
        InputError: there is none of this name.
    """
    if factory == AUTO:
        return "FLAT" if count <= EXACT_UP_TO else "IVF_FLAT"
    if factory not in KINDS:
        raise InputError(f"In Milvus, --factory is auto, {', '.join(KINDS)}; not {factory!r}.")
    return factory


def create(connection: Connection, dim: int) -> str:
    """Makes an empty collection, and returns its name."""
    address = connection.address
    name = f"{address.collection}_{secrets.token_hex(4)}"
    level = (address.consistency or "bounded").capitalize()
    connection(
        "create_collection", name, schema=schema(dim), consistency_level=level, timeout=WRITE_S
    )
    return name


def insert(connection: Connection, collection: str, rows: Iterable[Row]) -> list[str]:
    """Writes rows in batches, and returns their digests. A row with the same id is replaced."""
    digests: list[str] = []
    rows = iter(rows)
    batch = list(islice(rows, 1))
    size = _BATCH_BYTES // (4 * len(batch[0]["vector"]) + 4096) if batch else 1
    batch += islice(rows, max(size, 1) - 1)
    while batch:
        connection("upsert", collection, data=batch, timeout=WRITE_S)
        renew(connection)
        digests += (row["digest"] for row in batch)
        batch = list(islice(rows, max(size, 1)))
    return digests


def save(index: MilvusIndex) -> None:
    """Writes the manifest and the notes, both at once."""
    items = index.items
    step = len(items.notes.known_queries) // _MOST_QUERIES + 1
    notes = items.notes._replace(known_queries=items.notes.known_queries[::step])
    properties = {
        MANIFEST_PROPERTY: index.manifest.model_dump_json(),
        NOTES_PROPERTY: notes.packed(),
    }
    items.connection(
        "alter_collection_properties", items.collection, properties=properties, timeout=WRITE_S
    )


def _owned(connection: Connection) -> set[str]:
    """The collections that were made for this address."""
    prefix = f"{connection.address.collection}_"
    names = [name for name in connection("list_collections") if name.startswith(prefix)]
    return {name for name in names if _is_token(name.removeprefix(prefix))}


def _is_token(text: str) -> bool:
    return len(text) == 8 and set(text) <= set("0123456789abcdef")


def _prepared(items: MilvusItems, kind: str, count: int) -> tuple[Effort | None, float | None]:
    """Indexes and loads a collection; returns how much of it a search looks at, and the recall."""
    parameters: dict[str, int] = {}
    if kind == "HNSW":
        parameters = {"M": 32, "efConstruction": 200}
    elif kind != "FLAT":
        parameters = {"nlist": int(min(2 ** round(np.log2(4 * max(count, 1) ** 0.5)), 65_536))}
    prepared = items.connection.client.prepare_index_params()
    prepared.add_index("vector", index_type=kind, metric_type="IP", params=parameters)
    is_lite = not items.connection.address.uri.startswith("http")
    prepared.add_index("number", index_type="INVERTED" if is_lite else "STL_SORT")
    items.connection("create_index", items.collection, prepared, timeout=WRITE_S)
    items.connection("load_collection", items.collection, timeout=WRITE_S)
    return _tuned(items, parameters["nlist"]) if "nlist" in parameters else (None, None)


def _tuned(items: MilvusItems, cells: int) -> tuple[Effort, float]:
    """The least cells that find the stated share of the ten nearest, as in a folder's index."""
    rows = items.rows(EVERYTHING, ["vector"], _SAMPLE)
    queries = [np.asarray(row["vector"], np.float32) for row in rows]

    def nearest(nprobe: int) -> list[set[Any]]:
        answers = items.connection(
            "search", items.collection, data=queries, limit=_K, timeout=WRITE_S,
            search_params={"params": {"nprobe": nprobe}}, **items.wishes,
        )  # fmt: skip
        return [{hit["id"] for hit in hits} for hits in answers]

    right, nprobe = nearest(cells), 1
    while True:
        pairs = zip(nearest(nprobe), right, strict=True)
        recall = float(np.mean([len(own & these) / max(len(these), 1) for own, these in pairs]))
        if recall >= RECALL or nprobe >= cells:
            return Effort(nprobe=nprobe), round(recall, 4)
        nprobe *= 2
