"""Proves that an index is whole, and that it is the index of its pictures."""

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from models.common.errors import InputError
from models.retriever import index_files
from models.retriever.image_index import ImageIndex
from models.retriever.manifest import read_manifest
from models.retriever.picture_worker import read_all
from models.retriever.pictures import PictureError
from models.retriever.shard_pictures import InShard
from models.retriever.types import Encoder, file_of

SAMPLE = 32  # pictures that are encoded anew
_SAME = 0.995  # cosine; computing with 16 bits, or compressing vectors, costs a little


class Finding(NamedTuple):
    """The result of one check."""

    good: bool
    sentence: str


def check(
    folder: Path, open_encoder: Callable[[], Encoder], sample: int = SAMPLE
) -> Iterator[Finding]:
    """Checks the files against the manifest, then a sample of vectors and all pictures.

    Raises:
        InputError: there is no index in the folder, or none that this version reads.
    """
    manifest = read_manifest(folder)
    for name, file in (("vectors", manifest.vectors), ("ids and metadata", manifest.items)):
        try:
            index_files.checked(folder, file, whole=True)
        except (OSError, ValueError) as error:
            yield Finding(False, f"{name}: {error}; build the index again")
            return
        yield Finding(True, f"{name}: {file.bytes:,} bytes, as saved")
    try:
        index = ImageIndex.open(folder, manifest.encoder)
        ids = hashlib.sha256("\n".join(index.ids).encode()).hexdigest()
    except (InputError, sqlite3.Error) as error:
        yield Finding(False, str(error))
        return
    yield Finding(
        ids == manifest.ids_sha256,
        f"{len(index):,} ids, as many vectors and records; their order is "
        f"{'that' if ids == manifest.ids_sha256 else 'not that'} of the manifest",
    )
    yield from files_there(index.manifest.pictures, map(file_of, index.metadata))
    yield from vectors_anew(index, open_encoder, sample)


def files_there(root: str | None, named: Iterable[str | None]) -> Iterator[Finding]:
    """Looks for the files of pictures below a folder."""
    if root is None:
        return
    files = list(dict.fromkeys(file for file in named if file))
    missing = [file for file in files if not (Path(root) / file).is_file()]
    if missing:
        shown = ", ".join(ascii(file)[1:-1] for file in missing[:5])
        more = f" and {len(missing) - 5:,} more" if len(missing) > 5 else ""
        remedy = "run `grape index sync`, or name where they are now with --pictures"
        yield Finding(
            False, f"{len(missing):,} files of pictures are missing: {shown}{more}; {remedy}"
        )
    else:
        yield Finding(True, f"all {len(files):,} files of pictures are in {root}")


def _read(
    index: ImageIndex, places: list[int]
) -> Iterator[tuple[int, Image.Image | PictureError | OSError]]:
    """The pictures at these places, or why they cannot be read."""
    sources: dict[int, Path | bytes] = {}
    for place in places:
        try:
            picture = index.picture(place)
            if picture:
                sources[place] = picture.read() if isinstance(picture, InShard) else picture
        except (PictureError, OSError) as error:
            yield place, error
    yield from zip(sources, read_all(sources.values()), strict=True)


def vectors_anew(
    index: ImageIndex, open_encoder: Callable[[], Encoder], sample: int
) -> Iterator[Finding]:
    """Encodes a sample of the pictures anew, and compares."""
    count = min(sample, len(index))
    places = np.random.default_rng().choice(len(index), count, replace=False).tolist()
    found = dict(_read(index, places))
    pictures = {place: one for place, one in found.items() if not isinstance(one, Exception)}
    if not pictures:
        return
    encoder = open_encoder()
    if not index.manifest.encoder.same_vectors(encoder.fingerprint):
        yield Finding(False, f"the index was built with another encoder than {encoder.fingerprint}")
        return
    fresh = encoder.encode_images(pictures.values())
    kept = np.stack([index.vector(place) for place in pictures])
    cosines = (fresh * kept).sum(axis=1) / np.maximum(np.linalg.norm(kept, axis=1), 1e-12)
    wrong = [place for place, cosine in zip(pictures, cosines, strict=True) if cosine < _SAME]
    if wrong:
        shown = ", ".join(ascii(index.ids[place])[1:-1] for place in wrong[:5])
        yield Finding(
            False,
            f"{len(wrong)} of {len(pictures)} pictures have another vector than the index: "
            f"{shown}; run `grape index sync`, and build the index again if that changes nothing",
        )
    else:
        yield Finding(True, f"{len(pictures)} pictures encoded anew have the vectors of the index")
