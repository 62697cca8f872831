"""One search from query to hits, in the order in which it happens."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from models.client.wire import (
    DirectHits,
    RewriteResult,
    RewriteText,
    SearchedTexts,
    SearchHit,
    SearchResult,
    SearchTimings,
)
from models.retriever.index import Chosen
from models.retriever.manifest import Effort
from models.retriever.types import Scored, TextLength
from models.rewriter.protocol import AUTO, Sampling
from models.search.confidence import is_confident
from models.search.fusion import FusedHit, fuse
from models.search.negation import read_negation
from models.search.normalise import only_symbol
from models.search.options import Fusion, RerankBy, RewriteCount, RewriteMode
from models.search.plan import (
    Plan,
    PlanOptions,
    Rewriting,
    Setting,
    gate_decision,
    rewrite_query,
)
from models.search.query import Query, as_typed, task_of
from models.search.searches import Search
from models.search.without import plan_query
from service.hits import answered
from service.lookups import Lookups, RewriterCalls, Tell, carry_out
from service.monitoring.metrics import Metrics
from service.reranking import RankedHit, Reranked, Reranker, RerankSettings, Wish, admitted_as
from service.retrieval import BatchedRetriever
from service.rewriting.routing import Rewriters
from service.symbols import with_first


class SearchOptions(NamedTuple):
    """What a request chose, with the server's defaults filled in."""

    k: int
    rewrite: RewriteMode
    fusion: Fusion
    n: RewriteCount
    compare: bool
    with_reference: bool = False
    candidates: int = 0  # first hits that are reranked
    rerank_by: RerankBy = "auto"
    chosen: Chosen | None = None  # the only pictures that may be found, if there is a filter
    effort: Effort | None = None  # how much of a large index to look at; None for the index's own

    @property
    def sampling(self) -> Sampling:
        """Several rewrites are worth their cost only in a mixture."""
        if self.fusion == "original":
            return Sampling()
        if self.n != "auto":
            return Sampling(self.n)
        return AUTO if self.fusion in ("auto", "mixture") else Sampling()

    @property
    def reranking(self) -> Wish:
        return Wish(self.candidates, self.rerank_by)

    def admitted_as(self, passes: int) -> int:
        """Rewrites that a query takes at least; `n: auto` goes down to one under load.

        Args:
            passes: over the candidates, if they are rated in groups.
        """
        rewrites = 1 if self.rewrite == "never" or self.n == "auto" else self.sampling.n
        return rewrites + admitted_as(self.candidates, self.rerank_by, passes)


class Searcher:
    """All that a search needs, put together once."""

    def __init__(
        self,
        retriever: BatchedRetriever,
        rewriters: Rewriters,
        metrics: Metrics,
        index_name: str,
        reranking: RerankSettings,
    ) -> None:
        self.retriever = retriever
        self._rewriters = rewriters
        self._metrics = metrics
        # Which generation it was: another one may be served by the time of the answer.
        self.index_name = f"{index_name}@{retriever.index.manifest.generation}"
        self._reranker = Reranker(retriever, rewriters, metrics, reranking)

    async def search(
        self, query: Query, options: SearchOptions, request_id: str, tell: Tell | None = None
    ) -> SearchResult:
        """One query, from the gate to the hits.

        Args:
            tell: is called with what is known on the way.
        """
        started = time.perf_counter()
        left_out = None if options.with_reference else query.reference
        lookups = Lookups(self.retriever, left_out, options.chosen, options.effort)
        rewriting = RewriterCalls(self._rewriters, options.sampling, tell)
        setting = self._setting()._replace(is_name=await self._names(query))
        typed = as_typed(query, self.retriever.encoder)
        if tell:
            plain = Plan.of(typed, Rewriting("kept", ""), setting.tau(query))
            direct = await self._answered(plain, await lookups.find([typed]), options.k)
            tell(DirectHits.model_construct(hits=direct))
        wishes = PlanOptions(options.rewrite, options.fusion)
        plan = await carry_out(plan_query(query, typed, wishes, setting), lookups, rewriting)
        found = await lookups.find_for(plan)
        originals = await lookups.find([typed]) if options.compare else []
        first = await self._of_symbol(query, options.chosen)
        fusing = time.perf_counter()
        fused = self._fused(plan, found, max(options.k, options.candidates), first)
        self._metrics.stage("fuse", (time.perf_counter() - fusing) * 1000)
        ordered: Sequence[FusedHit | RankedHit] = fused
        reranked = None
        if options.candidates:
            reranked = await self._reranker.rerank(query, plan, fused, options.reranking)
            ordered = reranked.hits
        hits = await self._hits(ordered[: options.k], plan)
        kept = Plan.of(typed, plan.rewriting, plan.how.tau)
        result = SearchResult.model_construct(
            query=query.typed,
            rewrite=self._searched_texts(query, plan),
            hits=hits,
            original_hits=(
                await self._answered(kept, originals, options.k) if options.compare else None
            ),
            rerank=reranked.told if reranked else None,
            confident=bool(first)
            or (bool(hits) and is_confident(query, plan, hits[0].score, setting.mixture(query))),
            timings_ms=_timings(started, rewriting, lookups, reranked),
            index=self.index_name,
            degraded="fallback" in (plan.rewriting.status, reranked and reranked.told.status),
            request_id=request_id,
        )
        self._count(result, plan, rewriting)
        return result

    async def rewrite(self, query: Query, sampling: Sampling) -> RewriteResult:
        """One query, rewritten but not searched. It was requested, so the gate has no say."""
        assert query.text
        rewriting = RewriterCalls(self._rewriters, sampling)
        nothing = Lookups(self.retriever)
        done = await carry_out(
            rewrite_query(query, "requested", self._setting()), nothing, rewriting
        )
        texts = Plan.of(Search("", ()), done, 1.0).texts or {query.text: None}
        lengths = {text: self._length(text) for text in texts}
        if rewriting.failed and rewriting.failed.cause:
            self._metrics.fallback(rewriting.failed.cause)
        self._metrics.query(done.status, any(length.truncated for length in lengths.values()))
        return RewriteResult(
            query=query.typed,
            task=task_of(query).name,
            status=done.status,
            reason=done.reason,
            rewrites=[
                RewriteText(
                    text=text,
                    probability=probability,
                    clip_tokens=lengths[text].clip_tokens,
                    truncated=lengths[text].truncated,
                )
                for text, probability in texts.items()
            ],
            parts=done.parts,
            adapter=done.adapter,
        )

    async def needs_rewriter(self, text: str) -> bool:
        """Whether the gate wants a text rewritten."""
        query = Query(text)
        assert query.text
        typed = as_typed(query, self.retriever.encoder)
        lookups = Lookups(self.retriever)
        steps = gate_decision(query.text, typed, self._setting())
        decision = await carry_out(steps, lookups, RewriterCalls(self._rewriters, Sampling()))
        return decision.rewrite

    def _setting(self) -> Setting:
        return Setting(
            self.retriever.encoder,
            self.retriever.index.manifest.known_scores,
            self._rewriters.gate,
            self._rewriters.mixture,
            rewrites=not self._rewriters.switched_off,
            sees_pictures=self._rewriters.sees_pictures,
        )

    def _searched_texts(self, query: Query, plan: Plan) -> SearchedTexts:
        texts = plan.texts or ({query.text: None} if query.text else {})
        lengths = [self._length(text) for text in texts]
        return SearchedTexts.model_construct(
            status=plan.rewriting.status,
            reason=plan.rewriting.reason,
            texts=list(texts),
            probabilities=list(texts.values()),
            clip_tokens=[length.clip_tokens for length in lengths],
            truncated=any(length.truncated for length in lengths),
            parts=plan.parts,
            fusion=plan.how.fusion,
            query_weight=plan.typed_weight,
            tau=plan.how.tau,
            adapter=plan.rewriting.adapter,
        )

    def _length(self, text: str) -> TextLength:
        return self.retriever.encoder.text_length(text)

    def _fused(
        self, plan: Plan, found: list[Scored], k: int, first: Sequence[int] = ()
    ) -> list[FusedHit]:
        """The best ``k``, with the pictures at the positions ``first`` before all others."""
        hits = fuse(found, plan.how, len(self.retriever.index) if first else k)
        return with_first(hits, first, k) if first else hits

    async def _answered(self, plan: Plan, found: list[Scored], k: int) -> list[SearchHit]:
        return await self._hits(self._fused(plan, found, k), plan)

    async def _hits(self, hits: Sequence[FusedHit | RankedHit], plan: Plan) -> list[SearchHit]:
        return await self.retriever.look_up(answered, self.retriever.index, hits, plan)

    async def _names(self, query: Query) -> Callable[[str], bool]:
        """Says whether the query is what a picture is called; looked up only for a negation."""
        if not query.text or read_negation(query.text) is None:
            return lambda _: False
        called = await asyncio.to_thread(self.retriever.index.items.has_text, query.text)
        return lambda text: called and text == query.text

    async def _of_symbol(self, query: Query, chosen: Chosen | None) -> Sequence[int]:
        """The pictures whose metadata holds the emoji that is all of the query."""
        symbol = only_symbol(query.typed) if query.typed and not query.reference else None
        if symbol is None:
            return ()
        places = await asyncio.to_thread(
            self.retriever.index.items.with_symbol, symbol, only_symbol
        )
        if chosen is None:
            return places
        return await self.retriever.look_up(lambda: [place for place in places if place in chosen])

    def _count(self, result: SearchResult, plan: Plan, rewriting: "RewriterCalls") -> None:
        if rewriting.failed and rewriting.failed.cause:
            self._metrics.fallback(rewriting.failed.cause)
        self._metrics.query(result.rewrite.status, result.rewrite.truncated)
        self._metrics.rewrites(plan.rewriting.probabilities)
        timings = result.timings_ms
        if result.rewrite.status != "kept":
            self._metrics.stage("rewrite", timings.rewrite)
        self._metrics.stage("encode", timings.encode)
        self._metrics.stage("search", timings.search)
        self._metrics.stage("total", timings.total)


def _timings(
    started: float, rewriting: "RewriterCalls", lookups: "Lookups", reranked: Reranked | None
) -> SearchTimings:
    return SearchTimings(
        rewrite=round(rewriting.ms, 2),
        encode=round(lookups.encode_ms, 2),
        search=round(lookups.search_ms, 2),
        rerank=round(reranked.ms, 2) if reranked else None,
        total=round((time.perf_counter() - started) * 1000, 2),
    )
