"""Metadata from files beside the pictures, and from a table keyed by their paths."""

import csv
import json
import os
import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

from models.common.errors import GrapeError, InputError
from models.retriever.embedded import of_xmp
from models.retriever.fields import is_utf8
from models.retriever.folder import LeftOut, Scan, sidecars_of
from models.retriever.types import SHARD, Metadata

MAX_SIDECAR = 2**20  # bytes
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_KEYS = ("path", "file", "file_name", "filename", "id")  # of the column that names the picture
IDS = ("id", "key", "path", "file", "file_name", "filename")  # ... of one that names a vector
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,17})(\.\d+)?")  # "007" and phone numbers are texts


class Records:
    """What is known of the pictures in a folder besides their files.

    The sidecars of ``a/b.jpg`` are ``a/b.txt`` (a caption), and ``a/b.xmp``, ``a/b.json``,
    ``a/b.jpg.xmp`` and ``a/b.jpg.json``. They count more than what the file itself says, and a row
    of the table counts more than they do.

    Args:
        table: see :func:`read_table`.
        whole: whether ``found`` is all of the folder, so that a row without a picture is a mistake.
    """

    def __init__(
        self, folder: Path, found: Scan, table: Path | None = None, *, whole: bool = True
    ) -> None:
        self._folder = folder
        self._sidecars = found.others
        self._rows = dict(read_table(table)) if table else {}
        self.left_out: list[LeftOut] = []
        for path in self._rows.keys() - found.pictures.keys() if whole else ():
            self.left_out.append(LeftOut(path, "row of --metadata without a picture"))

    def of(self, path: str, described: Metadata) -> Metadata:
        """The metadata of the picture at this path below the folder.

        Args:
            described: what its file says.
        """
        record = dict(described)
        for name in sidecars_of(path):
            if name in self._sidecars:
                record |= self._sidecar(name)
        record |= self._rows.get(path, {})
        record.pop(SHARD, None)  # a picture of a folder is in none
        return record

    def _sidecar(self, name: str) -> Metadata:
        try:
            if (self._folder / name).stat().st_size > MAX_SIDECAR:
                raise ValueError(f"larger than {MAX_SIDECAR >> 20} MiB")
            text = (self._folder / name).read_text(encoding="utf-8-sig")
            if name.endswith(".txt"):
                return {"caption": text.strip()} if text.strip() else {}
            if name.endswith(".xmp"):
                return of_xmp(text.encode())
            record = json.loads(text, parse_constant=lambda name: None)
            if not isinstance(record, dict):
                raise ValueError("not a JSON object")
        except (OSError, ValueError, RecursionError) as error:
            self.left_out.append(LeftOut(name, "unreadable sidecar", str(error)))
            return {}
        return record


def read_table(path: Path, keys: Sequence[str] = _KEYS) -> Iterator[tuple[str, Metadata]]:
    """The rows of a CSV, TSV, JSONL or Parquet file, each with the path or id that it is about.

    It is in the first of the columns ``keys`` that there is; by default that is a path. A cell of a
    CSV that is a number or ``true`` or ``false`` is one; an empty cell is no value.

    Raises:
        InputError: it cannot be read, or a row does not fit; the sentence names the row.
    """
    suffix = path.suffix.lower()
    if suffix not in TABLES:
        raise InputError(f"--metadata {path} must end in {', '.join(TABLES)}.")
    try:
        if suffix == ".parquet":
            rows = _parquet(path)
        else:
            read = _jsonl if suffix in (".jsonl", ".ndjson") else _csv
            rows = read(path)
        for number, row in rows:
            key = next((key for key in keys if row.get(key) not in (None, "")), None)
            if key is None:
                columns = ", ".join(keys)
                raise InputError(f"{path}:{number} has a value in none of the columns {columns}.")
            name = str(row.pop(key))
            if not is_utf8(name):
                raise InputError(f"{path}:{number}: {name!a} is not valid Unicode.")
            if keys is _KEYS:
                name = os.path.normpath(name)
            yield name, {column: plain(value) for column, value in row.items() if value is not None}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}).") from error


def plain(value: Any) -> Any:
    """A value as JSON can hold it; dates in ISO 8601."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    return str(value)


def pyarrow_parquet() -> Any:
    """pyarrow's reader of Parquet files.

    Raises:
        GrapeError: it is not installed.
    """
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise GrapeError(
            "Parquet files need pyarrow: install GRAPE with its extra 'parquet'."
        ) from error
    return parquet


def _parquet(path: Path) -> Iterator[tuple[int, Metadata]]:
    table = pyarrow_parquet().read_table(path)
    yield from enumerate(table.to_pylist(), 1)


def _jsonl(path: Path) -> Iterator[tuple[int, Metadata]]:
    with open(path, encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line, parse_constant=lambda name: None)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path}:{number} is not JSON ({error}).") from error
            if not isinstance(row, dict):
                raise InputError(f"{path}:{number} is not a JSON object.")
            yield number, row


def _csv(path: Path) -> Iterator[tuple[int, Metadata]]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with open(path, encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        header = next(reader, [])
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise InputError(
                    f"{path}:{reader.line_num} has {len(cells)} cells, but the header has "
                    f"{len(header)}: put quotes around a cell that holds {delimiter!r}."
                )
            row: Metadata = dict(zip(header, cells, strict=True))
            for column in row.keys() - set(_KEYS):
                row[column] = _typed(row[column])
            yield reader.line_num, row


def _typed(cell: str) -> Any:
    if _NUMBER.fullmatch(cell):
        return float(cell) if "." in cell else int(cell)
    return {"": None, "true": True, "false": False}.get(cell.lower(), cell)
