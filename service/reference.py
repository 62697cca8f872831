"""The picture that a search starts from: one of the index, or one sent with the request."""

import asyncio
import base64
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from models.client.wire import ErrorType
from models.retriever import picture_worker
from models.retriever.pictures import MAX_PIXELS, PictureError, TooManyPixels
from models.retriever.types import Vectors
from models.search.composed import caption_of, nearest_caption
from models.search.query import Reference
from service.errors import ApiError
from service.retrieval import BatchedRetriever

if TYPE_CHECKING:  # heavy
    from models.retriever.index import Index

# Above this similarity, a picture is the one in the index, perhaps in another file format.
_SAME = 0.999
_NEIGHBOURS = 5  # searched for a caption


class PictureTooLarge(PictureError):
    """A picture in a request exceeds the limits of the settings."""


async def from_index(retriever: BatchedRetriever, picture_id: str, with_file: bool) -> Reference:
    """A picture of the index.

    Args:
        with_file: whether to read its file, for a model that reads pictures.

    Raises:
        ApiError: 404, the index has no picture with this id.
    """
    index = retriever.index
    position = await retriever.look_up(index.position, picture_id)
    if position is None:
        raise ApiError(
            404, ErrorType.NOT_FOUND, f"There is no picture {picture_id[:60]!r} in the index."
        )
    vector = await retriever.look_up(index.vector, position)
    items = await retriever.look_up(index.items.found, [position])
    caption = caption_of(items[position].record) if position in items else None
    if caption is None:
        caption = (await _neighbours(retriever, vector))[1]
    file = None
    if with_file:
        file = await asyncio.to_thread(file_of, index, position)
    return Reference(vector, position, caption, file)


async def from_request(retriever: BatchedRetriever, encoded: str, limits: "Limits") -> Reference:
    """A picture sent with the request, as base64 or as a ``data:`` URI.

    Raises:
        PictureError: it is not a picture that can be read.
        PictureTooLarge: it exceeds the limits.
    """
    data = base64.b64decode(encoded.rpartition(",")[2])
    if len(data) > limits.bytes:
        raise PictureTooLarge(f"image: {len(data):,} bytes are more than {limits.bytes:,}.")
    try:
        picture = await picture_worker.decode(data, min(limits.pixels, MAX_PIXELS))
    except TooManyPixels as error:
        raise PictureTooLarge(f"image: {error}.") from error
    except PictureError as error:
        raise PictureError(f"image: {error}.") from error
    vector = await retriever.picture_vector(picture)
    position, caption = await _neighbours(retriever, vector)
    return Reference(vector, position, caption, data)


class Limits(NamedTuple):
    """Limits of a picture in a request."""

    bytes: int
    pixels: int


async def _neighbours(
    retriever: BatchedRetriever, vector: Vectors
) -> tuple[int | None, str | None]:
    """The picture's own position, if it is in the index, and the nearest caption."""
    found = await retriever.retrieve([[vector]])
    hits = found.found[0].best(_NEIGHBOURS)
    places = [hit.position for hit in hits]
    items = await retriever.look_up(retriever.index.items.found, places)
    records = (items[place].record for place in places if place in items)
    itself = hits[0].position if hits and hits[0].score >= _SAME else None
    return itself, nearest_caption(records)


def file_of(index: "Index", position: int) -> bytes | None:
    """A picture's file, or None if the index has none or it is missing."""
    picture = index.picture(position)
    try:
        if isinstance(picture, Path):
            return picture.read_bytes()
        return picture.read() if picture else None
    except (OSError, PictureError):
        return None
