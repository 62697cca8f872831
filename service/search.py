"""A search from query to hits: gate -> rewriter -> encoder -> index -> fusion -> response."""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from models.client.wire import (
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
from models.retriever.types import Hit, TextLength
from models.rewriter.protocol import Sampling
from models.rewriter.tasks import COMPOSED, TASKS, Task, choose_task
from models.search.composed import repeats, words_beside
from models.search.fusion import FUSED_DEPTH, Search, chosen, found_by, fuse, searches
from models.search.gate import Decision, GateInput, decide
from models.search.long_text import readable_parts
from models.search.options import Fusion, RewriteMode
from service.hits import answered
from service.monitoring.metrics import Metrics
from service.reference import Reference
from service.retrieval import Retrieved, Retriever
from service.rewriting.routing import Rewriters
from service.wanted import Wanted, as_typed, prompts


class SearchOptions(NamedTuple):
    """A request's wishes with the server's defaults filled in."""

    k: int
    rewrite: RewriteMode
    fusion: Fusion
    n: int
    compare: bool
    with_reference: bool = False


class Outcome(NamedTuple):
    """What became of a query before it is searched."""

    status: Status
    reason: str
    rewrites: list[tuple[str, ...]]  # each of one text, or of several that are searched as one
    adapter: str | None = None  # that wrote them
    parts: int = 1  # that the query was cut into for the language model
    known: bool = False  # the encoder knows the query as typed; rewritten all the same
    beside: Search | None = None  # what is searched in turns with the rewrites

    @property
    def texts(self) -> list[str]:
        written = [text for rewrite in self.rewrites for text in rewrite]
        return list(dict.fromkeys([*written, *(self.beside.texts if self.beside else ())]))


_ASKED_FOR = Decision(True, "asked for")

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
        self, wanted: Wanted, options: SearchOptions, request_id: str, tell: Tell | None = None
    ) -> SearchResult:
        """One query, from the gate to the hits; ``tell`` hears of what is found on the way."""
        started = time.perf_counter()
        # Several rewrites are worth asking for only when they differ.
        sampling = Sampling(options.n, 1.0 if options.n > 1 else 0.0)
        typed = as_typed(wanted, self._retriever.encoder)
        reference = None if options.with_reference else wanted.reference
        several = options.fusion == "rrf" or options.n > 1
        depth = max(options.k, FUSED_DEPTH) if several else options.k
        direct = None
        gated = options.rewrite == "auto" or (options.rewrite, options.fusion) == ("always", "auto")
        if gated or options.compare or tell:
            direct = await self._retrieve([typed], depth, reference)
        if direct and tell:
            tell(DirectHits.model_construct(hits=self._direct_hits(typed, direct, options.k)))
        looked = time.perf_counter()
        outcome = await self._gated(wanted, direct if gated else None, options, sampling, tell)
        rewritten = time.perf_counter()

        fusion = chosen(options.fusion, outcome.known, outcome.beside is not None)
        made = searches(fusion, typed, outcome.rewrites, outcome.beside)
        found = await self._search_what_is_new(made, typed, direct, depth, reference)
        found_all = time.perf_counter()
        hits = fuse(found.lists, options.k, fusion)
        self._metrics.stage("fuse", (time.perf_counter() - found_all) * 1000)

        texts = outcome.texts or ([wanted.query] if wanted.query else [])
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
            query=wanted.query,
            rewrite=SearchedTexts.model_construct(
                status=outcome.status,
                reason=outcome.reason,
                texts=texts,
                clip_tokens=[length.clip_tokens for length in lengths],
                truncated=truncated,
                parts=outcome.parts if outcome.rewrites else max(len(typed.texts), 1),
                fusion=fusion if outcome.rewrites else "original",
                adapter=outcome.adapter,
            ),
            hits=answered(self._retriever.index, hits, found_by(made, found.lists)),
            original_hits=(
                self._direct_hits(typed, direct, options.k) if direct and options.compare else None
            ),
            timings_ms=timings,
            index=self._index_name,
            degraded=outcome.status == "fallback",
            request_id=request_id,
        )

    async def rewrite(self, wanted: Wanted, task: str, sampling: Sampling) -> RewriteResult:
        """One query, rewritten but not searched; asked for by name, so the gate is not."""
        assert wanted.query
        chosen = COMPOSED if wanted.reference else choose_task(wanted.query)
        if task != "auto" and not wanted.reference:
            chosen = TASKS[task]
        outcome = await self._rewrite(wanted, chosen, sampling, "asked for")
        lengths = [(text, self._length(text)) for text in outcome.texts or [wanted.query]]
        self._metrics.query(outcome.status, any(length.truncated for _, length in lengths))
        return RewriteResult(
            query=wanted.query,
            task=chosen.name,
            status=outcome.status,
            reason=outcome.reason,
            rewrites=[
                RewriteText(text=text, clip_tokens=length.clip_tokens, truncated=length.truncated)
                for text, length in lengths
            ],
            parts=outcome.parts,
            adapter=outcome.adapter,
        )

    async def decide(self, query: str) -> Decision:
        """What the gate says of a query."""
        found = await self._retrieve([as_typed(Wanted(query), self._retriever.encoder)], 1, None)
        return self._decide(query, found.lists[0])

    async def _retrieve(self, made: list[Search], k: int, left_out: Reference | None) -> Retrieved:
        """One list for each search, without the picture that the search starts from."""
        groups = [search.parts for search in made]
        if left_out is None or left_out.position is None:
            return await self._retriever.retrieve(groups, k)
        found = await self._retriever.retrieve(groups, k + 1)
        lists = [
            [hit for hit in hits if hit.position != left_out.position][:k] for hits in found.lists
        ]
        return found._replace(lists=lists)

    async def _search_what_is_new(
        self,
        made: list[Search],
        typed: Search,
        direct: Retrieved | None,
        k: int,
        left_out: Reference | None,
    ) -> Retrieved:
        """One list for each search; what was searched already is not searched again."""
        if direct is None:
            return await self._retrieve(made, k, left_out)
        new = [search for search in made if search is not typed]
        if not new:
            return direct
        found = await self._retrieve(new, k, left_out)
        lists = iter(found.lists)
        return Retrieved(
            [direct.lists[0] if search is typed else next(lists) for search in made],
            direct.encode_ms + found.encode_ms,
            direct.search_ms + found.search_ms,
        )

    def _decide(self, query: str, direct: list[Hit]) -> Decision:
        best = direct[0].score if direct else None
        known = self._retriever.index.manifest.known_scores
        gate = self._rewriter.gate(choose_task(query).name)
        return decide(query, GateInput(self._length(query), best, known), gate)

    async def _gated(
        self,
        wanted: Wanted,
        direct: Retrieved | None,
        options: SearchOptions,
        sampling: Sampling,
        tell: Tell | None,
    ) -> Outcome:
        if wanted.query is None:
            return Outcome("kept", "a picture without words", [])
        if options.rewrite == "never":
            return Outcome("kept", "not asked for", [])
        if wanted.reference:  # the encoder knows no "the same but"
            why = "a picture to be changed"
            changed = await self._rewrite(wanted, COMPOSED, sampling, why, tell)
            beside = options.fusion in ("auto", "interleave") and changed.rewrites
            return await self._with_more_beside(changed, wanted) if beside else changed
        # The gate looks at what the query finds as typed.
        decision = self._decide(wanted.query, direct.lists[0]) if direct else _ASKED_FOR
        known = not decision.rewrite
        if known and options.rewrite == "auto":
            return Outcome("kept", decision.reason, [])
        why = decision.reason if options.rewrite == "auto" else "asked for"
        if known:
            why = f"asked for, and searched beside the query: {decision.reason}"
        outcome = await self._rewrite(wanted, choose_task(wanted.query), sampling, why, tell)
        return outcome._replace(known=known)

    async def _rewrite(
        self, wanted: Wanted, task: Task, sampling: Sampling, why: str, tell: Tell | None = None
    ) -> Outcome:
        if self._rewriter.switched_off:
            return Outcome("kept", f"{why}, but this server has no rewriter", [])
        questions = prompts(wanted, task, self._rewriter.sees_pictures)
        if not questions:
            unknown = "nothing says in words what the picture shows"
            return Outcome("kept", f"{why}, but {unknown}", [])
        if wanted.reference and not questions[0].picture:
            why = f"{why}: {wanted.reference.caption}"
        alone = len(questions) == 1
        on_text = (lambda text: tell(PartialRewrite(text=text))) if tell and alone else None
        answers = await asyncio.gather(
            *(self._rewriter.rewrite(prompt, sampling, on_text) for prompt in questions)
        )
        written = [answer for answer in answers if answer.texts]
        failed = next((answer for answer in answers if not answer.texts), None)
        if failed and failed.cause:
            self._metrics.fallback(failed.cause)
        if not written:
            return Outcome("fallback", f"{why}, but {answers[0].reason}", [])
        if alone:
            each = [tuple(self._read(text)) for text in written[0].texts]
            return Outcome("rewritten", why, each, written[0].adapter)
        if failed:
            some = f"{len(answers) - len(written)} of {len(answers)} parts"
            why = f"{why}, but {some} as typed: {failed.reason}"
        said = [
            text
            for prompt, answer in zip(questions, answers, strict=True)
            for text in answer.texts or [prompt.query]
        ]
        joined = tuple(part for text in said for part in self._read(text))
        return Outcome("rewritten", why, [joined], written[0].adapter, len(questions))

    async def _with_more_beside(self, outcome: Outcome, wanted: Wanted) -> Outcome:
        """What a rewrite of a caption may have missed: English words that the encoder knows as they
        are, else the picture.

        Where the rewrite repeats the caption the change was left out, and the words join it.
        """
        reference = wanted.reference
        assert reference
        assert wanted.query
        if reference.caption is None or (self._rewriter.sees_pictures and reference.picture):
            return outcome
        words = words_beside(wanted.query)
        rewrites = [
            (*texts, *words) if repeats(reference.caption, " ".join(texts)) else texts
            for texts in outcome.rewrites
        ]
        beside = Search("picture", (reference.vector,))
        if words and not (await self.decide(words[0])).rewrite:
            beside = Search("words", words)
        return outcome._replace(rewrites=rewrites, beside=beside)

    def _read(self, text: str) -> list[str]:
        """A rewrite as the encoder reads it to its end: a model may copy a line of Russian."""
        return readable_parts(text, self._retriever.encoder)

    def _length(self, text: str) -> TextLength:
        return self._retriever.encoder.text_length(text)

    def _direct_hits(self, typed: Search, direct: Retrieved, k: int) -> list[SearchHit]:
        sources = found_by([typed], direct.lists)
        return answered(self._retriever.index, direct.lists[0][:k], sources)

    def _count(self, status: Status, truncated: bool, timings: SearchTimings) -> None:
        self._metrics.query(status, truncated)
        if status != "kept":
            self._metrics.stage("rewrite", timings.rewrite)
        self._metrics.stage("encode", timings.encode)
        self._metrics.stage("search", timings.search)
        self._metrics.stage("total", timings.total)
