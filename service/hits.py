"""Hits as they go over the wire."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from models.client.wire import SearchHit
from models.retriever.types import SHARD, true_cosine
from models.search.fusion import FusedHit
from models.search.plan import Plan
from service.reranking import RankedHit

if TYPE_CHECKING:
    from models.retriever.index import Index
    from models.retriever.item_store import Item


def answered(index: "Index", hits: Sequence[FusedHit | RankedHit], plan: Plan) -> list[SearchHit]:
    """With ids, ranks, metadata and the searches that found them."""
    ranked = [hit if isinstance(hit, RankedHit) else RankedHit(hit) for hit in hits]
    items = index.items.found([hit.position for hit, *_ in ranked])
    # A picture may have been removed from a collection since it was found.
    pairs = [(items[one.hit.position], one) for one in ranked if one.hit.position in items]
    return [_answered(rank, item, hit, plan) for rank, (item, hit) in enumerate(pairs, start=1)]


def _answered(rank: int, item: "Item", ranked: RankedHit, plan: Plan) -> SearchHit:
    hit, score, before = ranked
    return SearchHit.model_construct(
        id=item.id,
        rank=rank,
        score=round(hit.score, 6),
        cosine=round(true_cosine(hit.cosine), 6),
        url=picture_url(item.id, item.record),
        metadata=item.record,
        found_by=[plan.searches[number].name for number in hit.found_by],
        rerank_score=None if score is None else round(score, 4),
        rank_before=before,
    )


def picture_url(picture_id: str, metadata: dict[str, Any]) -> str | None:
    """Where the picture is served; None for an index of vectors alone."""
    is_kept = "file" in metadata or SHARD in metadata
    return f"/images/{quote(picture_id)}" if is_kept else None
