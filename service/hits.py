"""Hits as they go over the wire."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from models.client.wire import SearchHit
from models.retriever.types import true_cosine
from models.search.fusion import FusedHit
from models.search.plan import Plan
from service.reranking import RankedHit

if TYPE_CHECKING:
    from models.retriever.image_index import ImageIndex


def answered(
    index: "ImageIndex", hits: Sequence[FusedHit | RankedHit], plan: Plan
) -> list[SearchHit]:
    """With ids, ranks, metadata and the searches that found them."""
    return [_answered(index, rank, hit, plan) for rank, hit in enumerate(hits, start=1)]


def _answered(
    index: "ImageIndex", rank: int, ranked: FusedHit | RankedHit, plan: Plan
) -> SearchHit:
    hit, score = ranked if isinstance(ranked, RankedHit) else (ranked, None)
    return SearchHit.model_construct(
        id=index.ids[hit.position],
        rank=rank,
        score=round(hit.score, 6),
        cosine=round(true_cosine(hit.cosine), 6),
        url=_picture_url(index.ids[hit.position], index.metadata[hit.position]),
        metadata=index.metadata[hit.position],
        found_by=[plan.searches[number].name for number in hit.found_by],
        rerank_score=None if score is None else round(score, 4),
    )


def _picture_url(picture_id: str, metadata: dict[str, Any]) -> str | None:
    """Where the picture is served; None for an index of vectors alone."""
    return f"/images/{quote(picture_id)}" if "file" in metadata else None
