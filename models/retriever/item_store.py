"""The ids and the metadata of an index, in an SQLite file beside the vectors.

Records are read one by one, so that a million of them take no memory. Their single values are in a
table of their own, in the order of field, kind and value: every comparison of a filter reads one
range of it.
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache

from models.common.errors import InputError
from models.retriever.fields import Kind, storable, values_of
from models.retriever.item_columns import Column
from models.retriever.symbols import LONGEST, symbols_of
from models.retriever.types import Metadata

_SCHEMA = """
PRAGMA temp_store = MEMORY;
CREATE TABLE items (
    position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, record TEXT NOT NULL,
    size INTEGER, mtime_ns INTEGER, sha256 TEXT
);
CREATE TABLE fields (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE item_values (
    field INTEGER, kind TEXT, value, position INTEGER, PRIMARY KEY (field, kind, value, position)
) WITHOUT ROWID;
CREATE TABLE removed (sha256 TEXT PRIMARY KEY, id TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE known_queries (text TEXT NOT NULL);
CREATE TEMP TABLE unsorted (field INTEGER, kind TEXT, value, position INTEGER);
"""
_CACHE_KIB = 32 * 1024
_ITEMS_KEPT = 2048


class Stamp(NamedTuple):
    """The file of a picture, as it was when the picture was encoded."""

    size: int  # bytes
    mtime_ns: int
    sha256: str  # of its content


class Item(NamedTuple):
    """A picture of an index, without its vector."""

    id: str
    record: Metadata
    stamp: Stamp | None = None  # None if it came from no file of its own


class ItemStore:
    """Ids, records and values, in the order of the vectors. Reading is thread-safe.

    Created by :meth:`build` in memory, or by :meth:`open` from a file, which must not change.
    """

    def __init__(
        self, database: sqlite3.Connection, scanned: sqlite3.Connection | None = None
    ) -> None:
        """Takes a connection.

        Args:
            scanned: another connection to the same file, so that queries which read many values
                hold up none that reads a few records.
        """
        self._database = database
        self._lock = threading.Lock()
        self._scanned = scanned or database
        self._scan_lock = threading.Lock() if scanned else self._lock
        self._count = int(self.rows("SELECT count(*) FROM items")[0][0])
        self._fields = {name: number for number, name in self.rows("SELECT * FROM fields")}
        self.ids: Sequence[str] = Column(self.rows, self._count, "id", str)
        self.records: Sequence[Metadata] = Column(self.rows, self._count, "record", json.loads)
        self._symbols: Mapping[str, Sequence[int]] | None = None
        # What is found often is parsed once: half of what looking up ten records takes is JSON.
        self._kept: LRUCache[int, Item] = LRUCache(_ITEMS_KEPT)
        self._kept_lock = threading.Lock()

    @classmethod
    def build(
        cls,
        items: Iterable[Item],
        removed: Iterable[tuple[str, str]] = (),
        known_queries: Iterable[str] = (),
    ) -> "ItemStore":
        """Holds the items in memory.

        Args:
            removed: hash of the content and id of pictures that were removed: one that comes back
                gets its id again.
            known_queries: what the known scores of the gate are measured with.

        Raises:
            InputError: two items with the same id.
        """
        database = sqlite3.connect(":memory:", check_same_thread=False)
        database.executescript(_SCHEMA)
        fields: dict[str, int] = {}
        for position, item in enumerate(items):
            record = storable(item.record)
            row = (position, item.id, json.dumps(record), *(item.stamp or (None, None, None)))
            try:
                database.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?)", row)
            except sqlite3.IntegrityError as error:
                raise InputError(
                    f"The id {item.id!r} stands for two pictures; ids must be unique."
                ) from error
            values = (
                (fields.setdefault(value.field, len(fields)), value.kind, value.value, position)
                for value in values_of(record)
            )
            database.executemany("INSERT INTO unsorted VALUES (?, ?, ?, ?)", values)
        # Sorted once instead of inserted in any order.
        database.execute(
            "INSERT INTO item_values SELECT DISTINCT * FROM unsorted ORDER BY 1, 2, 3, 4"
        )
        database.execute("DROP TABLE unsorted")
        database.executemany(
            "INSERT INTO fields VALUES (?, ?)", ((number, name) for name, number in fields.items())
        )
        database.executemany("INSERT OR REPLACE INTO removed VALUES (?, ?)", removed)
        database.executemany(
            "INSERT INTO known_queries VALUES (?)", ((text,) for text in known_queries)
        )
        database.commit()
        return cls(database)

    @classmethod
    def open(cls, path: Path) -> "ItemStore":
        """Reads a store from its file.

        Raises:
            OSError: the file cannot be opened.
            sqlite3.Error: it is not a store.
        """
        path.open("rb").close()  # SQLite does not say why
        address = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        databases = [sqlite3.connect(address, uri=True, check_same_thread=False) for _ in range(2)]
        for database in databases:
            database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        return cls(*databases)

    def write(self, path: Path) -> None:
        """Copies the store to a new file.

        Raises:
            sqlite3.Error: for example on a full disk.
        """
        target = sqlite3.connect(path)
        try:
            target.execute("PRAGMA journal_mode = OFF")
            target.execute("PRAGMA synchronous = OFF")  # whoever names the file flushes it
            with self._lock:
                self._database.backup(target)
        finally:
            target.close()

    def __len__(self) -> int:
        return self._count

    def rows(self, query: str, given: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._lock:
            return self._database.execute(query, given).fetchall()

    def scan(self, query: str, given: Sequence[Any]) -> list[tuple[Any, ...]]:
        """All rows of a query that may read many values."""
        with self._scan_lock:
            return self._scanned.execute(query, given).fetchall()

    def position(self, picture_id: str) -> int | None:
        """Position of an id, or None."""
        try:
            found = self.rows("SELECT position FROM items WHERE id = ?", (picture_id,))
        except UnicodeEncodeError:  # half of a UTF-16 pair: no id has one
            return None
        return int(found[0][0]) if found else None

    def at(self, positions: Sequence[int]) -> list[Item]:
        """The items at these positions, in this order, read at once."""
        found = self.found(positions)
        return [found[position] for position in positions]

    def found(self, positions: Sequence[int]) -> dict[int, Item]:
        """The items at these positions, read at once. Their records are shared: change none."""
        with self._kept_lock:
            kept = {place: self._kept[place] for place in positions if place in self._kept}
        if missing := [place for place in positions if place not in kept]:
            marks = ",".join("?" * len(missing))
            query = f"SELECT position, id, record FROM items WHERE position IN ({marks})"
            read = {
                place: Item(name, json.loads(record))
                for place, name, record in self.rows(query, missing)
            }
            with self._kept_lock:
                self._kept.update(read)
            kept |= read
        return kept

    def located(self) -> Iterator[tuple[int, Item]]:
        """All items with their positions."""
        return enumerate(self.items())

    def items(self) -> Iterator[Item]:
        """All items in their order. Not affected by other threads."""
        for start in count(0, 1000):
            query = "SELECT id, record, size, mtime_ns, sha256 FROM items WHERE position >= ?"
            rows = self.rows(f"{query} ORDER BY position LIMIT 1000", (start,))
            for picture_id, record, *stamp in rows:
                known = Stamp(*stamp) if stamp[2] is not None else None
                yield Item(picture_id, json.loads(record), known)
            if len(rows) < 1000:
                return

    @property
    def removed(self) -> dict[str, str]:
        """Hash of the content and id of the pictures that were removed."""
        return dict(self.rows("SELECT sha256, id FROM removed"))

    def remember_queries(self, texts: Iterable[str]) -> None:
        """Replaces the known queries of a store that is in memory."""
        with self._lock, self._database:
            self._database.execute("DELETE FROM known_queries")
            self._database.executemany(
                "INSERT INTO known_queries VALUES (?)", ((text,) for text in texts)
            )

    @property
    def known_queries(self) -> list[str]:
        """What the known scores of the gate are measured with."""
        return [text for (text,) in self.rows("SELECT text FROM known_queries")]

    @property
    def fields(self) -> list[str]:
        """The fields that any record has."""
        return sorted(self._fields)

    def kinds(self, field: str) -> set[Kind]:
        """The kinds of the values that a field has; none if no record has the field."""
        # Jumps from kind to kind, where DISTINCT would read all values.
        query = "SELECT min(kind) FROM item_values WHERE field = ? AND kind > ?"
        kinds: list[Kind] = []
        while field in self._fields:
            ((kind,),) = self.rows(query, (self._fields[field], kinds[-1] if kinds else ""))
            if kind is None:
                break
            kinds.append(kind)
        return set(kinds)

    def where(self, field: str, condition: str, given: Sequence[Any]) -> npt.NDArray[np.int64]:
        """Positions of the items of which a value of the field meets an SQL condition."""
        # One text is quicker than a Python object for each position.
        query = f"SELECT group_concat(position) FROM item_values WHERE field = ? AND {condition}"
        ((positions,),) = self.scan(query, (self._fields[field], *given))
        return np.fromstring(positions or "", np.int64, sep=",")

    def with_symbol(self, symbol: str, read: Callable[[str], str | None]) -> Sequence[int]:
        """Positions of the pictures with a text that is this symbol, ascending.

        Args:
            read: the symbol that a text is, or None; always the same one.
        """
        if self._symbols is None:
            query = "SELECT value, position FROM item_values WHERE kind = 'text'"
            query = f"{query} AND length(value) <= ? AND value GLOB '[^A-Za-z]*'"
            self._symbols = symbols_of(self.scan(query, (LONGEST,)), read)
        return self._symbols.get(symbol, ())

    def has_text(self, text: str) -> bool:
        """Whether a picture has this text, whatever its case, as a value of its metadata.

        Takes about a second for a million records.
        """
        wanted = text.casefold()
        query = "SELECT DISTINCT value FROM item_values WHERE kind = 'text' AND length(value) = ?"
        return any(value.casefold() == wanted for (value,) in self.scan(query, (len(text),)))
