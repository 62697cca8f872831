"""A search from query to hits: gate -> rewriter -> encoder -> index -> fusion -> response."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote

from models.fusion import Fusion, found_by, fuse, list_names, searches
from models.gate import Decision, Look, decide
from models.rewriter import Ask, Sampling
from models.tasks import TASKS, Task, choose_task
from models.types import Hit, TextLength
from service.adapters import Rewriters
from service.metrics import Metrics
from service.retriever import Retrieved, Retriever
from service.schemas import (
    DirectHits,
    PartialRewrite,
    RewriteResult,
    RewriteText,
    SearchedTexts,
    SearchHit,
    SearchResult,
    SearchTimings,
    Status,
)
from service.settings import RewriteMode


class SearchOptions(NamedTuple):
    """A request's wishes with the server's defaults filled in."""

    k: int
    rewrite: RewriteMode
    fusion: Fusion
    n: int
    compare: bool


class Outcome(NamedTuple):
    """What became of a query before it is searched."""

    status: Status
    reason: str
    texts: list[str]
    adapter: str | None = None  # that wrote them


Tell = Callable[[DirectHits | PartialRewrite], None]  # what is known before the answer is


class Searcher:
    """All that a search needs, put together once."""

    def __init__(
        self,
        retriever: Retriever,
        rewriter: Rewriters,
        metrics: Metrics,
        index_name: str,
    ) -> None:
        self._retriever = retriever
        self._rewriter = rewriter
        self._metrics = metrics
        self._index_name = index_name

    async def search(
        self, query: str, options: SearchOptions, request_id: str, tell: Tell | None = None
    ) -> SearchResult:
        """One query, from the gate to the hits; ``tell`` hears of what is found on the way."""
        started = time.perf_counter()
        # Several rewrites are worth asking for only when they differ.
        sampling = Sampling(options.n, 1.0 if options.n > 1 else 0.0)
        direct = None
        if options.rewrite == "auto" or options.compare or tell:
            direct = await self._retriever.retrieve([[query]], options.k)
        if direct and tell:
            tell(DirectHits.model_construct(hits=self._as_typed(direct)))
        looked = time.perf_counter()
        outcome = await self._gated(query, direct, options.rewrite, sampling, tell)
        rewritten = time.perf_counter()

        groups = searches(options.fusion, query, outcome.texts)
        found = await self._search_groups(groups, query, direct, options.k)
        hits = fuse(found.lists, options.k)

        texts = outcome.texts or [query]
        lengths = [self._length(text) for text in texts]
        truncated = any(length.truncated for length in lengths)
        timings = SearchTimings(
            rewrite=round((rewritten - looked) * 1000, 2),
            encode=round(found.encode_ms, 2),
            search=round(found.search_ms, 2),
            total=round((time.perf_counter() - started) * 1000, 2),
        )
        self._count(outcome.status, truncated, timings)
        return SearchResult.model_construct(
            query=query,
            rewrite=SearchedTexts.model_construct(
                status=outcome.status,
                reason=outcome.reason,
                texts=texts,
                clip_tokens=[length.clip_tokens for length in lengths],
                truncated=truncated,
                adapter=outcome.adapter,
            ),
            hits=self._answer(hits, found_by(list_names(groups, query), found.lists)),
            original_hits=self._as_typed(direct) if direct and options.compare else None,
            timings_ms=timings,
            index=self._index_name,
            degraded=outcome.status == "fallback",
            request_id=request_id,
        )

    async def rewrite(self, query: str, task: str, sampling: Sampling) -> RewriteResult:
        """One query, rewritten but not searched; asked for by name, so the gate is not."""
        chosen = choose_task(query) if task == "auto" else TASKS[task]
        outcome = await self._rewrite(query, chosen, sampling, "asked for")
        lengths = [(text, self._length(text)) for text in outcome.texts or [query]]
        self._metrics.query(outcome.status, any(length.truncated for _, length in lengths))
        return RewriteResult(
            query=query,
            task=chosen.name,
            status=outcome.status,
            reason=outcome.reason,
            rewrites=[
                RewriteText(text=text, clip_tokens=length.clip_tokens, truncated=length.truncated)
                for text, length in lengths
            ],
            adapter=outcome.adapter,
        )

    async def decide(self, query: str) -> Decision:
        """What the gate says of a query."""
        found = await self._retriever.retrieve([[query]], 1)
        return self._decide(query, found.lists[0])

    async def _search_groups(
        self, groups: list[list[str]], query: str, direct: Retrieved | None, k: int
    ) -> Retrieved:
        """One list for each group; what was searched already is not searched again."""
        if direct is None:
            return await self._retriever.retrieve(groups, k)
        new = [group for group in groups if group != [query]]
        if not new:
            return direct
        found = await self._retriever.retrieve(new, k)
        lists = iter(found.lists)
        return Retrieved(
            [direct.lists[0] if group == [query] else next(lists) for group in groups],
            direct.encode_ms + found.encode_ms,
            direct.search_ms + found.search_ms,
        )

    def _decide(self, query: str, direct: list[Hit]) -> Decision:
        best = direct[0].score if direct else None
        known = self._retriever.index.manifest.known_scores
        gate = self._rewriter.gate(choose_task(query).name)
        return decide(query, Look(self._length(query), best, known), gate)

    async def _gated(
        self,
        query: str,
        direct: Retrieved | None,
        mode: RewriteMode,
        sampling: Sampling,
        tell: Tell | None,
    ) -> Outcome:
        if mode == "never":
            return Outcome("kept", "not asked for", [])
        why = "asked for"
        if mode == "auto":
            assert direct, "the gate looks at what the query finds as typed"
            decision = self._decide(query, direct.lists[0])
            if not decision.rewrite:
                return Outcome("kept", decision.reason, [])
            why = decision.reason
        return await self._rewrite(query, choose_task(query), sampling, why, tell)

    async def _rewrite(
        self, query: str, task: Task, sampling: Sampling, why: str, tell: Tell | None = None
    ) -> Outcome:
        if self._rewriter.switched_off:
            return Outcome("kept", "this server has no rewriter", [])
        on_text = (lambda text: tell(PartialRewrite(text=text))) if tell else None
        written = await self._rewriter.rewrite(Ask(task, query), sampling, on_text)
        if not written.texts:
            return Outcome("fallback", written.reason, [])
        return Outcome("rewritten", why, written.texts, written.adapter)

    def _length(self, text: str) -> TextLength:
        return self._retriever.encoder.text_length(text)

    def _as_typed(self, direct: Retrieved) -> list[SearchHit]:
        return self._answer(direct.lists[0], found_by(["query"], direct.lists))

    def _answer(self, hits: list[Hit], sources: dict[int, list[str]]) -> list[SearchHit]:
        index = self._retriever.index
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

    def _count(self, status: Status, truncated: bool, timings: SearchTimings) -> None:
        self._metrics.query(status, truncated)
        if status != "kept":
            self._metrics.stage("rewrite", timings.rewrite)
        self._metrics.stage("encode", timings.encode)
        self._metrics.stage("search", timings.search)
        self._metrics.stage("total", timings.total)


def picture_url(picture_id: str, metadata: dict[str, Any]) -> str | None:
    """Where the picture is served; None for an index of vectors alone."""
    return f"/images/{quote(picture_id)}" if "file" in metadata else None
