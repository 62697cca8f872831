"""Hits and documents in a new order, as the language model compares them."""

import asyncio
import math
import time
from collections.abc import Sequence
from typing import NamedTuple

from models.client.wire import Reranking
from models.retriever import picture_worker
from models.retriever.pictures import PictureError
from models.rewriter.tasks import RERANK
from models.search.fusion import FusedHit
from models.search.normalise import has_words
from models.search.options import CANDIDATES, ComparedBy, RerankBy
from models.search.plan import Plan
from models.search.query import Query
from models.search.rerank import (
    Comparison,
    chosen,
    comparison,
    comparison_of_pictures,
    priors,
    relevance,
    reranked,
    scores_of,
    task_of,
    text_of,
    why_not,
)
from service.monitoring.metrics import Cause, Metrics
from service.reference import file_of
from service.retrieval import BatchedRetriever
from service.rewriting.routing import Rewriters

_REWRITES = 2  # that take the time of the default number of candidates


class RerankSettings(NamedTuple):
    """The server's settings."""

    field: str | None = None  # the metadata key of what a candidate says; None: its caption
    passes: int = 1  # over the candidates, by group


class Asked(NamedTuple):
    """A query, and the texts to order for it; None for a candidate that says nothing."""

    query: str
    texts: Sequence[str | None]
    by: RerankBy
    passes: int = 1
    pictures: Sequence[bytes | None] | None = None  # the candidates' files, for a model that sees


class Wish(NamedTuple):
    """What a request wants reranked."""

    candidates: int
    by: RerankBy


class RankedHit(NamedTuple):
    """A hit in its new place."""

    hit: FusedHit
    score: float | None = None  # that it is ordered by; None if it kept its place
    before: int | None = None  # its rank; None if it was no candidate


class Reranked(NamedTuple):
    """The hits of one search, and what became of them."""

    hits: list[RankedHit]
    told: Reranking
    ms: float


class RankedTexts(NamedTuple):
    """Documents by their place in the request, the best first, with each one's share."""

    order: list[tuple[int, float | None]]
    told: Reranking


class _Scored(NamedTuple):
    """What the language model said of some texts."""

    scores: list[float | None]
    told: Reranking
    cause: Cause | None = None


class Reranker:
    """Reranks the hits of one index."""

    def __init__(
        self,
        retriever: BatchedRetriever,
        rewriters: Rewriters,
        metrics: Metrics,
        settings: RerankSettings,
    ) -> None:
        self._retriever = retriever
        self._rewriters = rewriters
        self._metrics = metrics
        self._settings = settings

    async def rerank(
        self, query: Query, plan: Plan, hits: Sequence[FusedHit], wished: Wish
    ) -> Reranked:
        """Puts the first hits in a new order. They keep theirs if that fails."""
        started = time.perf_counter()
        places = [hit.position for hit in hits[: wished.candidates]]
        items = await self._retriever.look_up(self._retriever.index.items.found, places)
        first = [hit for hit in hits[: wished.candidates] if hit.position in items]
        texts = [text_of(items[hit.position].record, self._settings.field) for hit in first]
        reason = why_not(query, plan) or _no_model(self._rewriters)
        pictures = await self._pictures(first, wished.by) if reason is None else None
        asked = Asked(query.text or "", texts, wished.by, self._settings.passes, pictures)
        scored = await _scored(self._rewriters, asked, reason)
        task = task_of(scored.told.by, asked.query).name
        weight = self._rewriters.mixture(task).rerank[scored.told.by]
        order = reranked(priors(first, plan), scored.scores, weight)
        new = [RankedHit(first[place], score, place + 1) for place, score in order]
        ms = (time.perf_counter() - started) * 1000
        self._metrics.rerank(scored.told.status, scored.cause)
        self._metrics.stage("rerank", ms)
        return Reranked([*new, *map(RankedHit, hits[wished.candidates :])], scored.told, ms)

    async def _pictures(self, hits: Sequence[FusedHit], by: RerankBy) -> list[bytes | None] | None:
        """The hits' files, if the model can look at them and the request leaves it the choice."""
        if by == "likelihood" or not self._rewriters.sees(RERANK.name):
            return None
        index = self._retriever.index
        files = await asyncio.to_thread(lambda: [file_of(index, hit.position) for hit in hits])
        return await asyncio.gather(*(_readable(file) for file in files))


async def _readable(file: bytes | None) -> bytes | None:
    """The file, if it holds a picture; it may have changed since it was indexed."""
    try:
        return file if file and await picture_worker.decode(file) else None
    except PictureError:
        return None


async def rank_texts(rewriters: Rewriters, metrics: Metrics, asked: Asked) -> RankedTexts:
    """Puts texts in a new order. They keep theirs if that fails."""
    reason = None if has_words(asked.query) else "the query has no letters or digits"
    reason = reason or _no_model(rewriters)
    scored = await _scored(rewriters, asked, reason)
    metrics.rerank(scored.told.status, scored.cause)
    order = reranked([0.0] * len(asked.texts), scored.scores, 1.0)
    share = relevance(scored.told.by, scored.scores)
    return RankedTexts([(placed.place, share[placed.place]) for placed in order], scored.told)


def admitted_as(candidates: int, by: RerankBy, passes: int) -> int:
    """Rewrites that scoring so many candidates counts as."""
    times = passes if chosen(by) == "group" else 1
    return math.ceil(_REWRITES * candidates * times / CANDIDATES)


def _no_model(rewriters: Rewriters) -> str | None:
    """Why there is no language model, if the server is meant to have none."""
    return rewriters.reason if rewriters.switched_off else None


async def _scored(rewriters: Rewriters, wanted: Asked, why_not: str | None) -> _Scored:
    """Each candidate's score; None for those without one.

    Args:
        why_not: why nothing is asked.
    """
    asked, by, names = _comparison_of(wanted)
    told = Reranking(
        status="kept", reason=why_not or "", by=by, adapter=None, candidates=len(names), groups=0
    )
    none: list[float | None] = [None] * len(names)
    if why_not is not None:
        return _Scored(none, told)
    if asked is None:
        reason = "fewer than two candidates have a text to compare"
        return _Scored(none, told.model_copy(update={"reason": reason}))
    compared = await rewriters.compare(asked)
    scores = scores_of(names, asked, compared.scores)
    if all(score is None for score in scores):
        reason = compared.reason or "the language model gave no usable score"
        failed = told.model_copy(update={"status": "fallback", "reason": reason})
        return _Scored(none, failed, compared.cause or "unusable")
    update = {
        "status": "reranked",
        "adapter": compared.adapter,
        "groups": compared.groups,
        "seen": asked.pictures is not None,
    }
    return _Scored(scores, told.model_copy(update=update))


def _comparison_of(
    wanted: Asked,
) -> tuple[Comparison | None, ComparedBy, Sequence[str | None]]:
    """What to ask if anything, by which way, and what stands there for each candidate."""
    if wanted.pictures:
        asked, names = comparison_of_pictures(wanted.query, wanted.pictures, wanted.passes)
        if asked:
            return asked, "group", names
    by = chosen(wanted.by)
    return comparison(by, wanted.query, wanted.texts, wanted.passes), by, wanted.texts
