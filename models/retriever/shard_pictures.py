"""Pictures inside tar and Parquet shards: where each is, and its bytes.

A picture's record says it under ``shard``: ``{"file": "0.tar", "offset": 1536, "bytes": 2048}``, or
``{"file": "0.parquet", "row": 17}``. Shards do not change once they are indexed.
"""

from pathlib import Path
from typing import Any, NamedTuple

from models.common.errors import GrapeError, InputError
from models.retriever.metadata import pyarrow_parquet
from models.retriever.pictures import MAX_BYTES, PictureError
from models.retriever.types import SHARD, Metadata

_NOT_THERE = "its shard does not hold it"
_BATCH = 64  # rows in memory
_PICTURES = ("image", "bytes", "jpg", "png", "webp", "path")  # columns that may hold one


class InShard(NamedTuple):
    """A picture inside a shard."""

    file: Path
    offset: int | None  # of its bytes in a tar file
    length: int | None
    row: int | None  # in a Parquet file, from 0

    def read(self) -> bytes:
        """The content of the picture's file.

        Raises:
            OSError: the shard cannot be read.
            PictureError: the picture is not there.
        """
        try:
            if self.offset is not None and self.length is not None and self.length <= MAX_BYTES:
                with open(self.file, "rb") as shard:
                    shard.seek(self.offset)
                    return shard.read(self.length)
            if self.row is not None:
                return _of_row(self.file, self.row)
        except (ValueError, OverflowError) as error:  # pyarrow's are among them
            raise PictureError(_NOT_THERE) from error
        raise PictureError(_NOT_THERE)


def own_file(folder: str | None, record: Metadata) -> Path | None:
    """The file of a record's picture; None if it has none, or none below the folder."""
    return _below(folder, record.get("file"))


def in_shard(folder: str | None, record: Metadata) -> InShard | None:
    """Where a record says that its picture is, if that is in a shard below the folder."""
    said = record.get(SHARD)
    if not isinstance(said, dict):
        return None
    file = _below(folder, said.get("file"))
    if file is None:
        return None
    numbers = [said.get(key) for key in ("offset", "bytes", "row")]
    offset, size, row = (n if isinstance(n, int) and n >= 0 else None for n in numbers)
    return InShard(file, offset, size, row)


def _below(folder: str | None, name: object) -> Path | None:
    if folder is None or name is None:
        return None
    root = Path(folder).resolve()
    try:
        path = (root / str(name)).resolve()
    except (OSError, ValueError):  # what is no path may be too long for one, or hold a NUL
        return None
    return path if path.is_relative_to(root) else None  # a symbolic link may lead outside


def _of_row(path: Path, row: int) -> bytes:
    """Reads one column of one row group, as much of it as it takes."""
    file = _opened(path)
    column = picture_column(path, file.schema_arrow.names)
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if row >= rows:
            row -= rows
            continue
        for batch in file.iter_batches(_BATCH, row_groups=[group], columns=[column]):
            if row >= len(batch):
                row -= len(batch)
                continue
            data, _ = picture_in(batch.column(0)[row].as_py(), path)
            if data is None or len(data) > MAX_BYTES:
                raise PictureError(_NOT_THERE)
            return data
    raise PictureError(_NOT_THERE)


def _opened(path: Path) -> Any:
    try:
        return pyarrow_parquet().ParquetFile(path)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, GrapeError) as error:
        raise PictureError(str(error)) from error


def picture_column(source: object, columns: list[str]) -> str:
    """The column of a table that holds its pictures.

    Raises:
        InputError: there is none.
    """
    column = next((name for name in _PICTURES if name in columns), None)
    if column is None:
        raise InputError(
            f"{source} has no column with pictures: name one of its columns ({', '.join(columns)}) "
            f"{' or '.join(_PICTURES)}."
        )
    return column


def picture_in(cell: Any, shard: Path) -> tuple[bytes | None, str | None]:
    """The content and the name of a picture: bytes, a path, or both as `datasets` has them."""
    data, name = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if isinstance(data, str):
        data, name = None, data
    if data is None and isinstance(name, str):
        data = _beside(shard, name)
    return data if isinstance(data, bytes) else None, name if isinstance(name, str) else None


def _beside(shard: Path, name: str) -> bytes | None:
    """A file that a shard names, in the shard's own folder; None if there is none."""
    folder = shard.parent.resolve()
    try:
        file = (folder / name).resolve()
        if not file.is_relative_to(folder) or not file.is_file() or file.stat().st_size > MAX_BYTES:
            return None
        return file.read_bytes()
    except (OSError, ValueError):  # what is no path may be too long for one, or hold a NUL
        return None
