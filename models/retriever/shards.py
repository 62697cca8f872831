"""Pictures in Parquet files and tar shards, and vectors that were computed elsewhere."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.common.errors import InputError
from models.retriever.folder import LeftOut
from models.retriever.metadata import IDS, plain, pyarrow_parquet, read_table
from models.retriever.pictures import MAX_BYTES, suffixes
from models.retriever.shard_pictures import picture_column, picture_in
from models.retriever.types import SHARD, Metadata, Vectors

SHARDS = (".parquet", ".tar")
_BATCH = 256  # rows in memory
_READ = (".txt", ".json")  # besides pictures
_TOO_LARGE = f"picture larger than {MAX_BYTES >> 20} MiB"
_KEYS = ("id", "key", "__key__", "path", "file_name")


class Packed(NamedTuple):
    """A picture that has no file of its own."""

    id: str
    data: bytes
    record: Metadata


def shards_of(source: Path) -> list[Path]:
    """The Parquet files and tar shards that a source is or holds."""
    if source.is_file():
        return [source] if source.suffix.lower() in SHARDS else []
    found = sorted(path for path in source.glob("*") if path.suffix.lower() in SHARDS)
    return [path for path in found if path.is_file()]


def read_shards(shards: list[Path], left_out: list[LeftOut]) -> Iterator[Packed]:
    """The pictures of Parquet files and tar shards, in their order.

    Raises:
        InputError: a shard cannot be read, or has no column with pictures.
    """
    for shard in shards:
        read = _parquet if shard.suffix.lower() == ".parquet" else _tar
        yield from read(shard, left_out)


def read_vectors(path: Path, ids: Path, dim: int) -> tuple[Vectors, list[str], list[Metadata]]:
    """Vectors from a .npy file, scaled to length 1, with ids and metadata from a table.

    Args:
        path: float ``[n, dim]``.
        ids: see :func:`models.retriever.metadata.read_table`; rows in the order of the vectors.

    Raises:
        InputError: they do not fit each other or the encoder, or a vector is zero or not finite.
    """
    try:
        vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a .npy file of vectors ({error}).") from error
    rows = list(read_table(ids, IDS))
    if vectors.ndim != 2 or vectors.shape[1] != dim or vectors.dtype.kind != "f":
        raise InputError(
            f"{path} holds {vectors.dtype} of shape {vectors.shape}; the encoder's vectors are "
            f"floats of shape (n, {dim})."
        )
    if len(vectors) != len(rows):
        raise InputError(f"{path} has {len(vectors)} vectors, but {ids} has {len(rows)} rows.")
    vectors = vectors.astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        wrong = int(np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))[0])
        raise InputError(f"{path}: vector {wrong} is zero or not finite.")
    return vectors / lengths, [name for name, _ in rows], [_record(row) for _, row in rows]


def _parquet(path: Path, left_out: list[LeftOut]) -> Iterator[Packed]:
    try:
        file = pyarrow_parquet().ParquetFile(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a Parquet file ({error}).") from error
    column = picture_column(path, file.schema_arrow.names)
    for number, row in enumerate(_rows(file, path), 1):
        data, name = picture_in(row.pop(column), path)
        one = packed(row, data, name or f"{path.stem}-{number}")
        if isinstance(one, Packed):
            yield _at(one, path, row=number - 1)
        else:
            left_out.append(LeftOut(f"{path.name}:{number}", one))


def packed(row: dict[str, Any], data: bytes | None, name: str) -> Packed | str:
    """A row as a picture, or why it is none.

    Args:
        row: its other columns.
        data: the content of the picture's file.
        name: its id, if no column has one.
    """
    if data is None:
        return "row without a picture"
    if len(data) > MAX_BYTES:
        return _TOO_LARGE
    key = next((key for key in _KEYS if row.get(key) is not None), None)
    picture_id = str(row.pop(key)) if key else name
    return Packed(picture_id, data, _record(row))


def _rows(file: Any, path: Path) -> Iterator[dict[str, Any]]:
    try:
        for batch in file.iter_batches(_BATCH):
            yield from batch.to_pylist()
    except (OSError, ValueError) as error:  # those of pyarrow are among them
        raise InputError(f"{path} is not a whole Parquet file ({error}).") from error


def _at(one: Packed, shard: Path, **place: int) -> Packed:
    """The picture with a record that says where it is."""
    return one._replace(record={**one.record, SHARD: {"file": shard.name, **place}})


def _tar(path: Path, left_out: list[LeftOut]) -> Iterator[Packed]:
    """As webdataset writes them: what belongs together follows one another."""
    key, parts = "", dict[str, _Part]()
    try:
        with tarfile.open(path) as archive:
            # In a compressed file nothing is found again without reading all before it.
            is_plain = isinstance(archive.fileobj, io.BufferedReader)
            for member in archive:
                if not member.isfile():
                    continue
                folder, _, name = member.name.removeprefix("./").rpartition("/")
                stem, _, suffix = name.partition(".")
                own = f"{folder}/{stem}" if folder else stem
                if own != key:
                    yield from _sample(path, key, parts, left_out)
                    key, parts = own, {}
                suffix = f".{suffix.lower()}"
                if suffix not in _READ and suffix not in suffixes():
                    continue
                if member.size > MAX_BYTES:
                    left_out.append(LeftOut(f"{path.name}:{member.name}", _TOO_LARGE))
                    continue
                content = archive.extractfile(member)
                offset = member.offset_data if is_plain and not member.issparse() else None
                parts[suffix] = _Part(content.read() if content else b"", offset)
            yield from _sample(path, key, parts, left_out)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(f"{path} is not a whole tar file ({error}).") from error


class _Part(NamedTuple):
    """A file of a sample."""

    content: bytes
    offset: int | None  # in the tar file, if it can be read from there


_NOTHING = _Part(b"{}", None)


def _sample(
    path: Path, key: str, parts: dict[str, _Part], left_out: list[LeftOut]
) -> Iterator[Packed]:
    pictures = [suffix for suffix in parts if suffix in suffixes()]
    if not pictures:
        if parts:
            left_out.append(LeftOut(f"{path.name}:{key}", "sample without a picture"))
        return
    record: Metadata = {}
    if ".txt" in parts:
        record["caption"] = parts[".txt"].content.decode(errors="replace").strip()
    try:
        said = json.loads(parts.get(".json", _NOTHING).content, parse_constant=lambda name: None)
        if not isinstance(said, dict):
            raise ValueError("not a JSON object")
        record |= _record(said)
    except (ValueError, TypeError, RecursionError) as error:
        left_out.append(LeftOut(f"{path.name}:{key}.json", "unreadable sidecar", str(error)))
    content, offset = parts[pictures[0]]
    one = Packed(key, content, record)
    yield one if offset is None else _at(one, path, offset=offset, bytes=len(content))


def _record(row: dict[str, Any]) -> Metadata:
    """Without what JSON cannot hold, and without what says where a picture is."""
    kept = {key: value for key, value in row.items() if not isinstance(value, bytes | None)}
    return {key: plain(value) for key, value in kept.items() if key not in ("file", SHARD)}
