"""Hits as they go over the wire."""

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from models.client.wire import SearchHit
from models.retriever.types import Hit

if TYPE_CHECKING:
    from models.retriever.image_index import ImageIndex


def answered(
    index: "ImageIndex", hits: list[Hit], sources: dict[int, list[str]]
) -> list[SearchHit]:
    """With ids, ranks, metadata and the searches that found them."""
    return [
        SearchHit.model_construct(
            id=index.ids[hit.position],
            rank=rank,
            score=round(hit.score, 6),
            url=picture_url(index.ids[hit.position], index.metadata[hit.position]),
            metadata=index.metadata[hit.position],
            found_by=sources[hit.position],
        )
        for rank, hit in enumerate(hits, start=1)
    ]


def picture_url(picture_id: str, metadata: dict[str, Any]) -> str | None:
    """Where the picture is served; None for an index of vectors alone."""
    return f"/images/{quote(picture_id)}" if "file" in metadata else None
