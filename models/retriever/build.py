"""Building an index from image files."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from models.common.errors import InputError
from models.retriever.fields import is_utf8
from models.retriever.folder import scan
from models.retriever.image_index import ImageIndex
from models.retriever.item_store import Item, ItemStore, Stamp
from models.retriever.manifest import EncoderFingerprint, IndexOptions, Scanned
from models.retriever.picture_worker import DESCRIBED, read_all
from models.retriever.shards import Packed
from models.retriever.types import Encoder, Metadata, Vectors


class Reading(NamedTuple):
    """What is done with pictures on their way.

    Attributes:
        track: wraps their ids to show progress.
        record_of: metadata of a file, by its path in the folder and what the file itself says.
        scanned: how the folder was looked through, which the index remembers.
    """

    track: Callable[[Iterable[str]], Iterable[str]] = lambda ids: ids
    record_of: Callable[[str, Metadata], Metadata] = lambda file, described: described
    scanned: Scanned | None = None


_PLAIN = Reading()


@dataclass
class BuildReport:
    """How many files were indexed; ``skipped`` pairs a file with the reason."""

    indexed: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Encoded:
    """Pictures that could be read, in one order, and why the others could not."""

    items: list[Item]
    vectors: Vectors
    skipped: list[tuple[str, str]]


def build_from_folder(
    folder: Path, encoder: Encoder, factory: str = "Flat", reading: Reading = _PLAIN
) -> tuple[ImageIndex, BuildReport]:
    """Encodes every image below a folder. The id of an image is its path in the folder.

    Args:
        factory: FAISS factory string.

    Raises:
        InputError: nothing to index, or an invalid factory string.
    """
    pictures = {name: folder / name for name in scan(folder).pictures}
    return build_index(pictures, folder, encoder, factory, reading)


def build_index(
    pictures: Mapping[str, Path],
    folder: Path,
    encoder: Encoder,
    factory: str = "Flat",
    reading: Reading = _PLAIN,
) -> tuple[ImageIndex, BuildReport]:
    """Encodes images that already have ids; otherwise like :func:`build_from_folder`.

    Args:
        pictures: id to file, below ``folder``.
    """
    encoded = encode(pictures, folder, encoder, reading)
    if not encoded.items:
        first, reason = encoded.skipped[0]
        raise InputError(
            f"None of the {len(encoded.skipped)} pictures in {folder} could be read; the first: "
            f"{first}: {reason}."
        )
    store = ItemStore.build(encoded.items)
    options = IndexOptions(factory, folder, scanned=reading.scanned)
    index = ImageIndex.made(encoded.vectors, store, encoder.fingerprint, options)
    return index, BuildReport(len(encoded.items), encoded.skipped)


def encode(
    pictures: Mapping[str, Path],
    folder: Path,
    encoder: Encoder,
    reading: Reading = _PLAIN,
) -> Encoded:
    """Reads and encodes images; for the arguments see :func:`build_index`."""
    items: list[Item] = []
    skipped: list[tuple[str, str]] = []

    def readable() -> Iterator[Image.Image]:
        for picture_id, stamp, found in _read(pictures, reading, encoder.enough_pixels):
            if not isinstance(found, Image.Image):
                skipped.append((ascii(picture_id)[1:-1], str(found)))
            elif not is_utf8(picture_id):
                skipped.append((ascii(picture_id)[1:-1], "its name is not valid UTF-8"))
            else:
                file = pictures[picture_id].relative_to(folder).as_posix()
                record = reading.record_of(file, found.info.get(DESCRIBED, {}))
                items.append(Item(picture_id, {**record, "file": file}, stamp))
                yield found

    vectors = encoder.encode_images(readable())
    return Encoded(items, vectors, skipped)


def build_packed(
    pictures: Iterable[Packed],
    encoder: Encoder,
    factory: str = "Flat",
    folder: Path | None = None,
) -> tuple[ImageIndex, BuildReport]:
    """Encodes images that have no files of their own.

    Args:
        folder: of their shards, in which they are found again. Without it, hits have no picture
            to show.

    Raises:
        InputError: nothing to index, or an invalid factory string.
    """
    return index_of(encode_packed(pictures, encoder), encoder.fingerprint, factory, folder)


def encode_packed(pictures: Iterable[Packed], encoder: Encoder) -> Encoded:
    """Reads and encodes images that have no files of their own."""
    items: list[Item] = []
    skipped: list[tuple[str, str]] = []

    def readable() -> Iterator[Image.Image]:
        asked: deque[Packed] = deque()
        contents = (asked.append(one) or one.data for one in pictures)  # type: ignore[func-returns-value]
        for found in read_all(contents, encoder.enough_pixels):
            one = asked.popleft()
            if not isinstance(found, Image.Image):
                skipped.append((ascii(one.id)[1:-1], str(found)))
            elif not is_utf8(one.id):
                skipped.append((ascii(one.id)[1:-1], "its name is not valid UTF-8"))
            else:
                items.append(Item(one.id, {**found.info.get(DESCRIBED, {}), **one.record}))
                yield found

    vectors = encoder.encode_images(readable())
    return Encoded(items, vectors, skipped)


def index_of(
    encoded: Encoded, encoder: EncoderFingerprint, factory: str, folder: Path | None
) -> tuple[ImageIndex, BuildReport]:
    """An index of pictures of shards in a folder.

    Raises:
        InputError: there are none, or an invalid factory string.
    """
    if not encoded.items:
        raise InputError("None of the pictures in the shards could be read.")
    store, options = ItemStore.build(encoded.items), IndexOptions(factory, folder)
    index = ImageIndex.made(encoded.vectors, store, encoder, options)
    return index, BuildReport(len(encoded.items), encoded.skipped)


def stamp_of(path: Path) -> Stamp:
    """The file as it is now.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    status = path.stat()
    return Stamp(status.st_size, status.st_mtime_ns, digest)


def _read(
    pictures: Mapping[str, Path], reading: Reading, enough: int
) -> Iterator[tuple[str, Stamp | None, Image.Image | Exception]]:
    """Each picture's id, stamp and pixels, or why it could not be read."""
    asked: deque[tuple[str, Stamp | None]] = deque()

    def files() -> Iterator[Path]:
        for picture_id in reading.track(pictures):
            path = pictures[picture_id]
            try:
                asked.append((picture_id, stamp_of(path)))
            except OSError:  # decoding says why
                asked.append((picture_id, None))
            yield path

    for found in read_all(files(), enough):
        yield (*asked.popleft(), found)
