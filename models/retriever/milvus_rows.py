"""A picture as a row of a collection in Milvus, and back.

| field | |
|---|---|
| `id` | primary key |
| `number` | the picture's position; higher than that of all pictures before it |
| `vector` | float32, of unit length |
| `record` | its metadata as JSON text |
| `values` | what filters compare, see :mod:`models.retriever.milvus_filters` |
| `stamp` | its file when it was encoded: size, time of change and SHA-256 |
| `digest` | SHA-256 of id, record, stamp and vector |
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from models.retriever.fields import storable
from models.retriever.item_store import Item, Stamp
from models.retriever.milvus_filters import values_field
from models.retriever.types import Vectors

LONGEST = 65_535  # bytes of a text or of JSON in Milvus
_SUM = 2**256
Row = dict[str, Any]


class TooLong(ValueError):
    """A picture that Milvus cannot hold; the sentence says why."""


def row_of(item: Item, vector: Vectors, number: int) -> Row:
    """A picture as a row.

    Raises:
        TooLong: its id or its metadata.
    """
    record = storable(item.record)
    row: Row = {
        "id": item.id,
        "number": number,
        "vector": np.asarray(vector, np.float32),
        "record": json.dumps(record, ensure_ascii=False),
        "values": values_field(record),
        "stamp": " ".join(map(str, item.stamp)) if item.stamp else "",
    }
    for name in ("id", "record", "values"):
        text = row[name] if isinstance(row[name], str) else json.dumps(row[name])
        if len(text.encode()) > LONGEST:
            what = "its id" if name == "id" else "its metadata"
            raise TooLong(f"{what} takes more than {LONGEST:,} bytes, which Milvus cannot hold")
    return row | {"digest": digest(row)}


def item_of(row: Row) -> Item:
    """The picture of a row that has at least `id` and `record`."""
    stamp = row.get("stamp", "").split()
    known = Stamp(int(stamp[0]), int(stamp[1]), stamp[2]) if stamp else None
    return Item(row["id"], json.loads(row["record"]), known)


def digest(row: Row) -> str:
    """What `digest` must be in a whole row."""
    content = json.dumps([row["id"], row["record"], row["stamp"]])
    vector = np.ascontiguousarray(row["vector"], np.float32).tobytes()
    return hashlib.sha256(content.encode(errors="replace") + vector).hexdigest()


def together(digests: Iterable[str], others: str = "0") -> str:
    """The sum of digests: that of a collection, whatever the order of its rows.

    Args:
        others: a sum to add to.
    """
    return f"{sum((int(one, 16) for one in digests), int(others, 16)) % _SUM:064x}"


def schema(dim: int) -> Any:
    """The fields of a collection."""
    import pymilvus

    library: Any = pymilvus
    kind = library.DataType
    made = library.MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    made.add_field("id", kind.VARCHAR, is_primary=True, max_length=LONGEST)
    made.add_field("number", kind.INT64)
    made.add_field("vector", kind.FLOAT_VECTOR, dim=dim)
    made.add_field("record", kind.VARCHAR, max_length=LONGEST)
    made.add_field("values", kind.JSON)
    made.add_field("stamp", kind.VARCHAR, max_length=200)
    made.add_field("digest", kind.VARCHAR, max_length=64)
    return made


def numbers_in(positions: Sequence[int]) -> str:
    """The expression that is true of the pictures at these positions."""
    return f"number in [{', '.join(map(str, positions))}]"
