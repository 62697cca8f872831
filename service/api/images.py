"""Pictures of the index as WebP, at any size."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import Request
from fastapi.responses import Response

from models.client.wire import ErrorType
from models.retriever import picture_worker
from models.retriever.pictures import PictureError
from service.errors import ApiError

if TYPE_CHECKING:
    from models.retriever.index import Index
    from models.retriever.shard_pictures import InShard

MIN_SIZE, MAX_SIZE = 16, 2048


def picture_response(
    index: "Index", picture_id: str, size: int, request: Request, shared: bool
) -> Response:
    """The picture as WebP that fits a square of ``size`` pixels, or 304 if the client has it.

    Args:
        shared: whether proxies may keep it for everyone.

    Raises:
        ApiError: 404, the index has no such picture, or its file is missing or unreadable.
    """
    picture = _picture(index, picture_id)
    try:
        file = picture if isinstance(picture, Path) else picture.file
        changed = file.stat().st_mtime_ns
        kept_by = "public" if shared else "private"
        etag = f'"{changed:x}-{size}"'
        headers = {"ETag": etag, "Cache-Control": f"{kept_by}, max-age=3600"}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(_render(picture, size, changed), media_type="image/webp", headers=headers)
    except FileNotFoundError as error:
        raise _not_found(f"The file of picture {picture_id!r} is missing") from error
    except (PictureError, OSError) as error:
        raise _not_found(f"The file of picture {picture_id!r} cannot be read") from error


@lru_cache(maxsize=4096)  # a thumbnail on the page is about 4 KB
def _render(picture: "Path | InShard", size: int, changed: int) -> bytes:
    source = picture if isinstance(picture, Path) else picture.read()
    return picture_worker.thumbnail(source, size)


def _picture(index: "Index", picture_id: str) -> "Path | InShard":
    position = index.position(picture_id)
    if position is None:
        raise _not_found(f"There is no picture {picture_id[:60]!r} in the index")
    picture = index.picture(position)
    if picture is None:
        raise _not_found(f"The index has no file for picture {picture_id!r}")
    return picture


def _not_found(sentence: str) -> ApiError:
    return ApiError(404, ErrorType.NOT_FOUND, f"{sentence}.")
