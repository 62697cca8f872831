"""Reads rows from files. A file that cannot be read exactly is refused, with the line to mend."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from models.common.errors import InputError

Record = dict[str, Any]

_LONGEST_CELL = 2**24


def read_table(path: Path) -> Iterator[Record]:
    """The rows of a file, without its empty cells.

    Raises:
        InputError: the file cannot be read; if it is text, the line is named.
    """
    if not path.is_file():
        raise InputError(f"There is no data file {path}.")
    read = READERS[path.suffix.lower()]
    try:
        for record in read(path):
            yield {name: value for name, value in record.items() if _is_present(value)}
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read: it is not UTF-8.") from error
    except (ValueError, OSError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


def _read_jsonl(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            text = line.removeprefix("\ufeff").strip()  # joined files have one in the middle
            if not text:
                continue
            try:
                record = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise InputError(
                    f"{path}, line {number} cannot be read as JSON: {error}."
                ) from error
            if not isinstance(record, dict):
                raise InputError(f"{path}, line {number} is not a JSON object.")
            yield record


def _read_csv(path: Path) -> Iterator[Record]:
    return _read_cells(path, ",")


def _read_tsv(path: Path) -> Iterator[Record]:
    return _read_cells(path, "\t")


def _read_cells(path: Path, separator: str) -> Iterator[Record]:
    # "null" is a German word ("zero"): only an empty cell is missing.
    with path.open(encoding="utf-8-sig", newline="") as file:
        names: list[str] | None = None
        for line, cells in _cells(path, file, separator):
            if names is None:
                names = [cell.strip() for cell in cells]
                if len(set(names)) < len(names):
                    raise InputError(f"{path}, line {line}: two columns have the same name.")
                continue
            if len(cells) > len(names):
                raise InputError(
                    f"{path}, line {line} has {len(cells)} cells, but there are {len(names)} "
                    "columns: put quotes around a cell that holds the separator."
                )
            yield {name: cell or None for name, cell in zip(names, cells, strict=False)}


def _cells(path: Path, file: TextIO, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not blank, with the number of the line on which it begins."""
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(file, delimiter=separator, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{path}, line {line} cannot be read: {error}.") from error
        if cells:
            yield line, cells


def _read_parquet(path: Path) -> Iterator[Record]:
    import pandas

    for record in pandas.read_parquet(path).to_dict("records"):
        yield {str(name): value for name, value in record.items()}


READERS: dict[str, Callable[[Path], Iterator[Record]]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
}


def _is_present(value: Any) -> bool:
    """False for an empty cell of a table, which pandas reads as NaN."""
    return value is not None and value == value if not hasattr(value, "__len__") else True
