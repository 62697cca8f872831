"""Stores for an index's metadata, compared: SQLite, DuckDB and Arrow with the same records.

    python -m benchmarks.metadata_stores [--count 1000000] [--folder FOLDER] [--only STORE]

Each store holds one JSON record a picture, and what filters need. Measured in a process of its own:
seconds to write it, bytes on disk, milliseconds to open it and read one record by its id, resident
memory after all filters, and milliseconds of each filter. A filter ends with a NumPy mask of all
pictures, which is what FAISS is given. DuckDB is skipped if it is not installed.
"""

import argparse
import datetime
import json
import multiprocessing
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from models.retriever.filters import parse_filter
from models.retriever.item_store import Item, ItemStore
from models.retriever.selection import select

WORDS = [f"word{number}" for number in range(5_000)]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
FILTERS = (
    "place equal, 1 %",
    "year range, 50 %",
    "name prefix, .02 %",
    "tag in two, .12 %",
    "both",
)


def records(count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    random = np.random.default_rng(0)
    day = datetime.date(2000, 1, 1)
    for number in range(count):
        words = [WORDS[i] for i in random.integers(0, len(WORDS), 4)]
        taken = day + datetime.timedelta(days=int(random.integers(0, 9_000)))
        yield (
            f"photos/{number // 1000}/{number}.jpg",
            {
                "file": f"photos/{number // 1000}/{number}.jpg",
                "name": " ".join(words[:2]),
                "tags": words[1:],
                "year": taken.year,
                "exif": {"taken": taken.isoformat(), "place": f"place{number % 100}"},
            },
        )


class SQLiteValues:
    """The store that GRAPE uses: records, and single values in the order of field and value."""

    def write(self, path: Path, count: int) -> None:
        ItemStore.build(Item(picture, record) for picture, record in records(count)).write(path)

    def open(self, path: Path, count: int) -> None:
        self.store = ItemStore.open(path)

    def one(self, picture: str) -> Any:
        position = self.store.position(picture)
        assert position is not None
        return self.store.records[position]

    def mask(self, number: int) -> Mask:
        wanted: list[dict[str, Any]] = [
            {"exif.place": "place7"},
            {"year": {"gte": 2012, "lt": 2025}},
            {"name": {"prefix": "word1234"}},
            {"tags": {"in": ["word7", "word8"]}},
        ]
        given = wanted[number] if number < 4 else wanted[0] | wanted[1]
        mask = np.zeros(len(self.store), bool)
        mask[select(self.store, parse_filter(given)).positions] = True
        return mask


class SQLiteJson:
    """Records alone; a filter reads the JSON of each."""

    def write(self, path: Path, count: int) -> None:
        database = sqlite3.connect(path)
        database.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
            "CREATE TABLE items (position INTEGER PRIMARY KEY, id TEXT UNIQUE, record TEXT);"
        )
        rows = ((at, picture, json.dumps(r)) for at, (picture, r) in enumerate(records(count)))
        database.executemany("INSERT INTO items VALUES (?, ?, ?)", rows)
        database.commit()

    def open(self, path: Path, count: int) -> None:
        self.count = count
        self.database = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)

    def one(self, picture: str) -> Any:
        rows = self.database.execute("SELECT record FROM items WHERE id = ?", (picture,))
        return json.loads(rows.fetchone()[0])

    def mask(self, number: int) -> Mask:
        if number == 4:
            return self.mask(0) & self.mask(1)
        where = (
            "record ->> '$.exif.place' = 'place7'",
            "record ->> '$.year' BETWEEN 2012 AND 2024",
            "record ->> '$.name' LIKE 'word1234%'",
            "EXISTS (SELECT 1 FROM json_each(record, '$.tags') WHERE value IN ('word7', 'word8'))",
        )[number]
        rows = self.database.execute(f"SELECT position FROM items WHERE {where}")
        found = np.zeros(self.count, bool)
        found[np.fromiter((row[0] for row in rows), np.int64)] = True
        return found


class DuckDB:
    def write(self, path: Path, count: int) -> None:
        import duckdb
        import pyarrow

        rows = pyarrow.Table.from_pylist(_columns(count))  # noqa: F841  # read by name
        database = duckdb.connect(str(path))
        database.execute("CREATE TABLE items AS SELECT * FROM rows ORDER BY position")
        database.execute("CREATE UNIQUE INDEX by_id ON items (id)")
        database.close()

    def open(self, path: Path, count: int) -> None:
        import duckdb

        self.count = count
        self.database = duckdb.connect(str(path), read_only=True, config={"threads": 2})

    def one(self, picture: str) -> Any:
        found = self.database.execute("SELECT record FROM items WHERE id = ?", [picture])
        return json.loads(found.fetchone()[0])

    def mask(self, number: int) -> Mask:
        if number == 4:
            return self.mask(0) & self.mask(1)
        where = (
            "place = 'place7'",
            "year >= 2012 AND year < 2025",
            "starts_with(name, 'word1234')",
            "list_has_any(tags, ['word7', 'word8'])",
        )[number]
        query = self.database.execute(f"SELECT position FROM items WHERE {where}")
        found = np.zeros(self.count, bool)
        found[query.fetchnumpy()["position"]] = True
        return found


class Arrow:
    """An IPC file, mapped; filters are compute kernels over whole columns."""

    def write(self, path: Path, count: int) -> None:
        import pyarrow

        table = pyarrow.Table.from_pylist(_columns(count))
        with (
            pyarrow.OSFile(str(path), "wb") as file,
            pyarrow.ipc.new_file(file, table.schema) as writer,
        ):
            writer.write_table(table)

    def open(self, path: Path, count: int) -> None:
        import pyarrow

        self.count = count
        self.table = pyarrow.ipc.open_file(pyarrow.memory_map(str(path))).read_all()

    def one(self, picture: str) -> Any:
        import pyarrow.compute as compute

        place = compute.index(self.table["id"], picture).as_py()
        return json.loads(self.table["record"][place].as_py())

    def mask(self, number: int) -> Mask:
        import pyarrow
        import pyarrow.compute as compute

        if number == 4:
            return self.mask(0) & self.mask(1)
        table = self.table
        if number == 0:
            kept = compute.equal(table["place"], "place7")
        elif number == 1:
            years = table["year"]
            kept = compute.and_(compute.greater_equal(years, 2012), compute.less(years, 2025))
        elif number == 2:
            kept = compute.starts_with(table["name"], "word1234")
        else:
            found = np.zeros(self.count, bool)
            tags = table["tags"].combine_chunks()
            flat = compute.is_in(tags.flatten(), pyarrow.array(["word7", "word8"]))
            parents = compute.list_parent_indices(tags)
            found[compute.filter(parents, flat).to_numpy()] = True
            return found
        mask: Mask = kept.to_numpy()
        return mask


def _columns(count: int) -> list[dict[str, Any]]:
    return [
        {
            "position": position,
            "id": picture,
            "record": json.dumps(record),
            "name": record["name"],
            "tags": record["tags"],
            "year": record["year"],
            "place": record["exif"]["place"],
        }
        for position, (picture, record) in enumerate(records(count))
    ]


def _measured(name: str, path: Path, count: int, tell: Callable[[str], None]) -> None:
    """In a process that has not written the store."""
    store = STORES[name]()
    before = psutil.Process().memory_info().rss
    started = time.perf_counter()
    store.open(path, count)
    assert store.one("photos/0/7.jpg")["file"] == "photos/0/7.jpg"
    opened = (time.perf_counter() - started) * 1000
    masks, best = [], []
    for number in range(len(FILTERS)):
        times = []
        for _ in range(5):
            started = time.perf_counter()
            mask = store.mask(number)
            times.append((time.perf_counter() - started) * 1000)
        masks.append(int(mask.sum()))
        best.append(sorted(times)[2])
    grown = (psutil.Process().memory_info().rss - before) / 2**20
    figures = " | ".join(f"{ms:.1f}" for ms in best)
    tell(f"{opened:.0f} | {grown:.0f} | {figures} | finds {masks}")


STORES: dict[str, Any] = {
    "sqlite, values": SQLiteValues,
    "sqlite, json": SQLiteJson,
    "duckdb": DuckDB,
    "arrow": Arrow,
}


def _write(name: str, path: Path, count: int) -> None:
    STORES[name]().write(path, count)


def _in_process(function: Callable[..., None], *given: Any) -> None:
    process = multiprocessing.get_context("spawn").Process(target=function, args=given)
    process.start()
    process.join()
    assert process.exitcode == 0, f"{given[0]} failed"


def _print(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only", choices=STORES)
    arguments = parser.parse_args()
    print("| store | write s | MB | open ms | memory MiB |", " | ".join(FILTERS), "|")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for name in [arguments.only] if arguments.only else STORES:
            try:
                started = time.perf_counter()
                path = Path(folder) / name.replace(", ", "-")
                _in_process(_write, name, path, arguments.count)
                seconds = time.perf_counter() - started
            except AssertionError as error:
                print(f"| {name} | {error}")
                continue
            print(f"| {name} | {seconds:.0f} | {path.stat().st_size / 1e6:.0f} |", end=" ")
            sys.stdout.flush()
            _in_process(_measured, name, path, arguments.count, _print)


if __name__ == "__main__":
    main()
