"""Ids and metadata of a collection in Milvus, and what the collection remembers besides."""

import base64
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from models.retriever.fields import Kind
from models.retriever.item_store import Item
from models.retriever.milvus_connection import Connection
from models.retriever.milvus_filters import with_symbol, with_text
from models.retriever.milvus_rows import Row, item_of, numbers_in

WHOLE_UP_TO = 16_384  # pictures that one search may return, which is Milvus's limit
_PAGE = 500  # rows with vectors in one answer, which has 64 MB at most
ITEM = ["id", "number", "record"]


class Notes(NamedTuple):
    """What an index remembers besides its manifest and its pictures."""

    fields: dict[str, dict[Kind, int]]  # see :data:`models.retriever.milvus_filters.Fields`
    removed: dict[str, str]
    known_queries: list[str]
    next_number: int  # of the next picture that is added

    def packed(self) -> str:
        """As a property, which must be a short text."""
        return base64.b85encode(zlib.compress(json.dumps(self).encode(), 9)).decode()

    @classmethod
    def unpacked(cls, text: str) -> "Notes":
        """Reads a property.

        Raises:
            ValueError: it is none.
        """
        return cls(*json.loads(zlib.decompress(base64.b85decode(text))))


class MilvusChosen:
    """The pictures of a collection for which an expression is true."""

    def __init__(self, items: "MilvusItems", condition: str) -> None:
        self.condition = condition
        self._items = items

    def __contains__(self, position: int) -> bool:
        return bool(self._items.numbers(f"number == {position} and {self.condition}"))


class MilvusItems:
    """Ids and metadata of a collection. Nothing is kept here: Milvus is asked."""

    def __init__(self, connection: Connection, collection: str, wishes: dict[str, Any]) -> None:
        self.connection = connection
        self.collection = collection
        self.wishes = wishes
        self.notes = Notes({}, {}, [], 0)

    def rows(self, condition: str, fields: list[str], limit: int | None = None) -> list[Row]:
        """Some fields of the rows for which a condition is true."""
        wishes: dict[str, Any] = {**self.wishes, **({"limit": limit} if limit else {})}
        found: list[Row] = self.connection(
            "query", self.collection, filter=condition, output_fields=fields, **wishes
        )
        return found

    def numbers(self, condition: str, limit: int | None = WHOLE_UP_TO) -> list[int]:
        """Positions of the pictures for which a condition is true, ascending."""
        return sorted(row["number"] for row in self.rows(condition, ["number"], limit))

    def count(self) -> int:
        """How many rows there are."""
        return int(self.rows("", ["count(*)"])[0]["count(*)"])

    def all_rows(self, fields: list[str]) -> Iterator[Row]:
        """Some fields, `number` among them, of all rows in the order of the index."""
        page = _PAGE if "vector" in fields else 4 * _PAGE
        for start in range(0, self.notes.next_number, page):
            condition = f"number >= {start} and number < {start + page}"
            yield from sorted(self.rows(condition, fields, page), key=lambda row: row["number"])

    def found(self, positions: Sequence[int]) -> dict[int, Item]:
        rows = self.rows(numbers_in(positions), ITEM) if len(positions) else []
        return {row["number"]: item_of(row) for row in rows}

    def located(self) -> Iterator[tuple[int, Item]]:
        for row in self.all_rows([*ITEM, "stamp"]):
            yield row["number"], item_of(row)

    def has_text(self, text: str) -> bool:
        return bool(self.numbers(with_text(text), 1))

    def with_symbol(self, symbol: str, read: Callable[[str], str | None]) -> Sequence[int]:
        return self.numbers(with_symbol(symbol))

    @property
    def removed(self) -> dict[str, str]:
        return dict(self.notes.removed)

    @property
    def known_queries(self) -> list[str]:
        return list(self.notes.known_queries)

    def remember_queries(self, texts: Iterable[str]) -> None:
        self.notes = self.notes._replace(known_queries=list(texts))
