"""The pictures of a data set on the hub, by its name."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import httpx

from models.common.errors import GrapeError, InputError
from models.common.progress import say
from models.retriever.folder import LeftOut
from models.retriever.pictures import MAX_BYTES
from models.retriever.shard_pictures import picture_column
from models.retriever.shards import Packed, packed

_PREFIX = "hf-hub:"  # a misspelt folder must not be looked up on the hub
_NAME = re.compile(r"(?P<name>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[\w./-]+))?")


def is_dataset(source: str) -> bool:
    """Whether a source names a data set."""
    return source.startswith(_PREFIX)


def read_dataset(source: str, split: str, left_out: list[LeftOut]) -> Iterator[Packed]:
    """The pictures of a split, read as they arrive, without a copy on the disk.

    The columns are those of a Parquet file; see :mod:`models.retriever.shards`.

    Args:
        source: ``hf-hub:OWNER/NAME``, or with ``@REVISION``.

    Raises:
        InputError: there is no such data set or split, or it has no column with pictures.
        GrapeError: the hub cannot be reached.
    """
    rows = _opened(source, split)
    columns = rows.column_names or list(next(iter(rows), {}))
    return _pictures(source, rows, picture_column(source, columns), left_out)


def _pictures(
    source: str, rows: Iterable[dict[str, Any]], column: str, left_out: list[LeftOut]
) -> Iterator[Packed]:
    name = source.removeprefix(_PREFIX).partition("@")[0].rpartition("/")[2]
    for number, row in enumerate(_arriving(source, rows), 1):
        data, file = _file(row.pop(column))
        one = packed(row, data, file or f"{name}-{number}")
        if isinstance(one, Packed):
            yield one
        else:
            left_out.append(LeftOut(f"{source}:{number}", one))


def _arriving(source: str, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    number = 0
    try:
        for row in rows:
            yield row
            number += 1
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise GrapeError(
            f"{source} broke off after {number} rows ({_reason(error)}): no index was written."
        ) from error


def _file(cell: Any) -> tuple[bytes | None, str | None]:
    """The content and the name of a picture, which may be a file of its own on the hub."""
    if not isinstance(cell, dict):
        return (cell if isinstance(cell, bytes) else None), None
    data, path = cell.get("bytes"), cell.get("path")
    if data is not None or not path:
        return data, path
    from datasets.utils.file_utils import xopen

    with xopen(path, "rb") as file:
        return file.read(MAX_BYTES + 1), path.rpartition("/")[2]


def _reason(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _opened(source: str, split: str) -> Any:
    import datasets

    found = _NAME.fullmatch(source.removeprefix(_PREFIX))
    if found is None:
        raise InputError(f"{source} is no data set: write it like {_PREFIX}OWNER/NAME.")
    say(f"Reading the split {split} of the data set {found[0]} from the hub.")
    try:
        rows = datasets.load_dataset(
            found["name"], revision=found["revision"], split=split, streaming=True
        )
    except ConnectionError as error:
        raise GrapeError(f"The hub cannot be reached ({error}).") from error
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"The data set {found[0]} cannot be read: {_reason(error)}") from error
    for column, kind in (rows.features or {}).items():
        if isinstance(kind, datasets.Image):  # its file as it is, which the workers decode
            rows = rows.cast_column(column, datasets.Image(decode=False))
    return rows
