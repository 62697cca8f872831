"""One search from query to hits, in the order in which it happens."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from models.client.wire import (
    DirectHits,
    PartialRewrite,
    RewriteResult,
    RewriteText,
    SearchedTexts,
    SearchHit,
    SearchResult,
    SearchTimings,
)
from models.retriever.types import Hit, TextLength
from models.rewriter.protocol import Prompt, Sampling
from models.search.fusion import FUSED_DEPTH, fuse
from models.search.options import Fusion, RewriteMode
from models.search.plan import (
    BestScore,
    Given,
    Plan,
    PlanOptions,
    Result,
    Setting,
    Steps,
    gate_decision,
    plan_search,
    rewrite_query,
)
from models.search.query import Query, Reference, as_typed, task_of
from models.search.searches import Search, found_by
from service.monitoring.metrics import Metrics
from service.retrieval import BatchedRetriever
from service.rewriting.host import Rewritten
from service.rewriting.routing import Rewriters

if TYPE_CHECKING:
    from models.retriever.image_index import ImageIndex


class SearchOptions(NamedTuple):
    """What a request chose, with the server's defaults filled in."""

    k: int
    rewrite: RewriteMode
    fusion: Fusion
    n: int
    compare: bool
    with_reference: bool = False

    @property
    def depth(self) -> int:
        """Hits to fetch of each search, so that there are enough of them to fuse."""
        fused = self.fusion == "rrf" or self.n > 1
        return max(self.k, FUSED_DEPTH) if fused else self.k

    @property
    def sampling(self) -> Sampling:
        """Several rewrites are worth their cost only if they differ."""
        return Sampling(self.n, 1.0 if self.n > 1 else 0.0)


Tell = Callable[[DirectHits | PartialRewrite], None]  # hears what is known before the answer is


class Searcher:
    """All that a search needs, put together once."""

    def __init__(
        self, retriever: BatchedRetriever, rewriters: Rewriters, metrics: Metrics, index_name: str
    ) -> None:
        self._retriever = retriever
        self._rewriters = rewriters
        self._metrics = metrics
        self._index_name = index_name

    async def search(
        self, query: Query, options: SearchOptions, request_id: str, tell: Tell | None = None
    ) -> SearchResult:
        """One query, from the gate to the hits.

        Args:
            tell: is called with what is known on the way.
        """
        started = time.perf_counter()
        left_out = None if options.with_reference else query.reference
        lookups = _Lookups(self._retriever, options.depth, left_out)
        rewriting = _Rewriting(self._rewriters, options.sampling, tell)
        typed = as_typed(query, self._retriever.encoder)
        if tell:
            direct = await lookups.find([typed])
            tell(DirectHits.model_construct(hits=self._direct_hits(typed, direct, options.k)))
        wishes = PlanOptions(options.rewrite, options.fusion)
        steps = plan_search(query, typed, wishes, self._setting())
        plan = await _carry_out(steps, lookups, rewriting)
        originals = [typed] if options.compare else []
        lists = await lookups.find([*plan.searches, *originals])
        lists, direct = lists[: len(plan.searches)], lists[len(plan.searches) :]
        fusing = time.perf_counter()
        hits = fuse(lists, options.k, plan.fusion)
        self._metrics.stage("fuse", (time.perf_counter() - fusing) * 1000)
        result = SearchResult.model_construct(
            query=query.text,
            rewrite=self._searched_texts(query, plan),
            hits=answered(self._retriever.index, hits, found_by(plan.searches, lists)),
            original_hits=self._direct_hits(typed, direct, options.k) if direct else None,
            timings_ms=_timings(started, rewriting, lookups),
            index=self._index_name,
            degraded=plan.rewriting.status == "fallback",
            request_id=request_id,
        )
        self._count(result, rewriting)
        return result

    async def rewrite(self, query: Query, sampling: Sampling) -> RewriteResult:
        """One query, rewritten but not searched. It was requested, so the gate has no say."""
        assert query.text
        rewriting = _Rewriting(self._rewriters, sampling)
        nothing = _Lookups(self._retriever, 0, None)
        done = await _carry_out(
            rewrite_query(query, "requested", self._setting()), nothing, rewriting
        )
        texts = list(dict.fromkeys(text for rewrite in done.rewrites for text in rewrite))
        lengths = [(text, self._length(text)) for text in texts or [query.text]]
        if rewriting.failed and rewriting.failed.cause:
            self._metrics.fallback(rewriting.failed.cause)
        self._metrics.query(done.status, any(length.truncated for _, length in lengths))
        return RewriteResult(
            query=query.text,
            task=task_of(query).name,
            status=done.status,
            reason=done.reason,
            rewrites=[
                RewriteText(text=text, clip_tokens=length.clip_tokens, truncated=length.truncated)
                for text, length in lengths
            ],
            parts=done.parts,
            adapter=done.adapter,
        )

    async def needs_rewriter(self, text: str) -> bool:
        """Whether the gate wants a text rewritten."""
        typed = as_typed(Query(text), self._retriever.encoder)
        lookups = _Lookups(self._retriever, 1, None)
        steps = gate_decision(text, typed, self._setting())
        decision = await _carry_out(steps, lookups, _Rewriting(self._rewriters, Sampling()))
        return decision.rewrite

    def _setting(self) -> Setting:
        return Setting(
            self._retriever.encoder,
            self._retriever.index.manifest.known_scores,
            self._rewriters.gate,
            rewrites=not self._rewriters.switched_off,
            sees_pictures=self._rewriters.sees_pictures,
        )

    def _searched_texts(self, query: Query, plan: Plan) -> SearchedTexts:
        texts = plan.texts or ([query.text] if query.text else [])
        lengths = [self._length(text) for text in texts]
        return SearchedTexts.model_construct(
            status=plan.rewriting.status,
            reason=plan.rewriting.reason,
            texts=texts,
            clip_tokens=[length.clip_tokens for length in lengths],
            truncated=any(length.truncated for length in lengths),
            parts=plan.parts,
            fusion=plan.fusion,
            adapter=plan.rewriting.adapter,
        )

    def _length(self, text: str) -> TextLength:
        return self._retriever.encoder.text_length(text)

    def _direct_hits(self, typed: Search, direct: list[list[Hit]], k: int) -> list[SearchHit]:
        return answered(self._retriever.index, direct[0][:k], found_by([typed], direct))

    def _count(self, result: SearchResult, rewriting: "_Rewriting") -> None:
        if rewriting.failed and rewriting.failed.cause:
            self._metrics.fallback(rewriting.failed.cause)
        self._metrics.query(result.rewrite.status, result.rewrite.truncated)
        timings = result.timings_ms
        if result.rewrite.status != "kept":
            self._metrics.stage("rewrite", timings.rewrite)
        self._metrics.stage("encode", timings.encode)
        self._metrics.stage("search", timings.search)
        self._metrics.stage("total", timings.total)


async def _carry_out(steps: Steps[Result], lookups: "_Lookups", rewriting: "_Rewriting") -> Result:
    """Looks up what the steps need, one thing after the other, until they are done."""
    given: Given = None
    while True:
        try:
            need = steps.send(given)
        except StopIteration as done:
            result: Result = done.value
            return result
        if isinstance(need, BestScore):
            given = await lookups.best_score(need.search)
        else:
            given = await rewriting.answers(need.prompts)


def _timings(started: float, rewriting: "_Rewriting", lookups: "_Lookups") -> SearchTimings:
    return SearchTimings(
        rewrite=round(rewriting.ms, 2),
        encode=round(lookups.encode_ms, 2),
        search=round(lookups.search_ms, 2),
        total=round((time.perf_counter() - started) * 1000, 2),
    )


class _Lookups:
    """The lists of one query's searches; each search is made once."""

    def __init__(self, retriever: BatchedRetriever, depth: int, left_out: Reference | None) -> None:
        self._retriever = retriever
        self._depth = depth
        self._left_out = left_out.position if left_out else None
        self._found: list[tuple[Search, list[Hit]]] = []
        self.encode_ms = 0.0
        self.search_ms = 0.0

    async def find(self, searches: Sequence[Search]) -> list[list[Hit]]:
        """One list for each search, without the picture that the query starts from."""
        new = list(
            {id(search): search for search in searches if self._list(search) is None}.values()
        )
        if new:
            more = 0 if self._left_out is None else 1
            groups = [search.parts for search in new]
            found = await self._retriever.retrieve(groups, self._depth + more)
            self.encode_ms += found.encode_ms
            self.search_ms += found.search_ms
            for search, hits in zip(new, found.lists, strict=True):
                kept = [hit for hit in hits if hit.position != self._left_out]
                self._found.append((search, kept[: self._depth]))
        return [self._list(search) or [] for search in searches]

    async def best_score(self, search: Search) -> float | None:
        """The first hit's score; None if the index is empty."""
        (hits,) = await self.find([search])
        return hits[0].score if hits else None

    def _list(self, search: Search) -> list[Hit] | None:
        # By identity: parts hold vectors, which have no single truth value to compare by.
        return next((hits for known, hits in self._found if known is search), None)


class _Rewriting:
    """Asks the rewriter for one query, and notes what it cost and what failed."""

    def __init__(self, rewriters: Rewriters, sampling: Sampling, tell: Tell | None = None) -> None:
        self._rewriters = rewriters
        self._sampling = sampling
        self._tell = tell
        self.ms = 0.0
        self.failed: Rewritten | None = None  # the first answer without a rewrite

    async def answers(self, prompts: list[Prompt]) -> list[Rewritten]:
        started = time.perf_counter()
        tell = self._tell
        on_text = (lambda text: tell(PartialRewrite(text=text))) if tell else None
        streamed = on_text if len(prompts) == 1 else None  # several would be interleaved
        answers = await asyncio.gather(
            *(self._rewriters.rewrite(prompt, self._sampling, streamed) for prompt in prompts)
        )
        self.ms += (time.perf_counter() - started) * 1000
        self.failed = next((answer for answer in answers if not answer.texts), None)
        return answers


def answered(
    index: "ImageIndex", hits: list[Hit], sources: dict[int, list[str]]
) -> list[SearchHit]:
    """Hits as they go over the wire: with ids, ranks, metadata and the searches that found them."""
    return [
        SearchHit.model_construct(
            id=index.ids[hit.position],
            rank=rank,
            score=round(hit.score, 6),
            url=_picture_url(index.ids[hit.position], index.metadata[hit.position]),
            metadata=index.metadata[hit.position],
            found_by=sources[hit.position],
        )
        for rank, hit in enumerate(hits, start=1)
    ]


def _picture_url(picture_id: str, metadata: dict[str, Any]) -> str | None:
    """Where the picture is served; None for an index of vectors alone."""
    return f"/images/{quote(picture_id)}" if "file" in metadata else None
