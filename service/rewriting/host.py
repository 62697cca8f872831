"""The life of a rewriter in the service: started, proved, watched, restarted when it dies."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from models.common.errors import GrapeError
from models.retriever.pictures import PictureError
from models.rewriter.adapter import Adapter
from models.rewriter.protocol import (
    OnText,
    Prompt,
    RewriteFailed,
    Rewriter,
    RewriterDown,
    Sampling,
    ScoresHidden,
)
from models.rewriter.rewrites import Rewrite, usable_rewrites
from models.rewriter.tasks import RERANK_TASKS, Task
from models.search import normalise
from models.search.rerank import Comparison, groups_of
from service.garbage_collector import give_back_memory, keep_what_is_loaded
from service.monitoring.metrics import Cause
from service.rewriting.cache import RewriteCache, RewriteKey, Written
from service.rewriting.comparing import Compared, Scorer
from service.rewriting.proof import prove

log = logging.getLogger("grape")

CHECK_EVERY_S = 1.0
RESTART_AFTER_S = (1.0, 10.0, 60.0)  # then every minute
_ENOUGH = 0.9  # of the time for a rewrite, after which those that are finished are searched


class Rewritten(NamedTuple):
    """The rewrites of one prompt, or the reason why there are none."""

    rewrites: list[Rewrite]  # the most probable first
    reason: str  # why there are none, or fewer than there should be
    cause: Cause | None = None  # the reason as a label, for metrics
    adapter: str | None = None  # that wrote them; another one may be served a moment later


class NothingUsable(RewriteFailed):
    """The language model answered, but not with a usable rewrite."""


StartRewriter = Callable[[], Awaitable[Rewriter]]


class RewriterHost:
    """Runs one rewriter.

    Before it has proved itself, and after it has died, rewriting fails with a reason and searches
    go on without it.
    """

    def __init__(  # noqa: PLR0913
        self,
        start: StartRewriter | None,
        adapter: Adapter | None,
        timeout_s: float,
        cache: RewriteCache,
        at_once: int = 64,
        tasks: Callable[[], Mapping[str, Task]] | None = None,
    ) -> None:
        """Starts nothing.

        Args:
            at_once: rewrites that the engine writes at the same time.
            tasks: gives the prompts, once the model is there; by default those of the adapter.
        """
        self._start = start
        self._cache = cache
        self._at_once = at_once
        self._adapter = adapter
        self._read_tasks = tasks
        self._tasks: Mapping[str, Task] = adapter.tasks if adapter else {}
        self._scorer = Scorer(cache.size, {**RERANK_TASKS, **self._tasks})
        self._timeout_s = timeout_s
        self._rewriter: Rewriter | None = None
        self._busy = 0
        self._late: set[asyncio.Task[None]] = set()
        self.ready = False
        self.reason = "still loading" if start else "switched off with llm 'none'"

    @property
    def switched_off(self) -> bool:
        """Whether the settings switch rewriting off."""
        return self._start is None

    @property
    def adapter(self) -> str | None:
        return self._adapter.name if self._adapter else None

    @property
    def sees_pictures(self) -> bool:
        return self._rewriter is not None and self._rewriter.sees_pictures

    async def begin(self) -> None:
        """Starts the rewriter and proves it.

        Raises:
            GrapeError: it did not start, or its answers do not prove it.
            TimeoutError: it does not answer.
        """
        assert self._start, "begin() was called although rewriting is switched off"
        starting = asyncio.ensure_future(self._start())
        try:
            # A thread that starts an engine cannot be cancelled, so a late engine is closed.
            self._rewriter = await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(self._close_late)
            raise
        if self._read_tasks:
            self._tasks = await asyncio.to_thread(self._read_tasks)
        await prove(self._rewriter, self._adapter, self._tasks)
        _warn_of_other_queries(self._adapter)
        self.ready, self.reason = True, ""

    async def run(self) -> None:
        """Keeps the rewriter alive until cancelled. One that has begun is watched from now on."""
        if self._start is None:
            return
        failures = 0
        has_begun = self.ready
        try:
            while True:
                try:
                    if not self.ready:
                        await self.begin()
                        if not has_begun:  # again, it would pause every request
                            keep_what_is_loaded()
                        has_begun = True
                        log.info("The language model is ready.")
                        await asyncio.to_thread(give_back_memory)
                    failures = 0
                    assert self._rewriter
                    await self._watch(self._rewriter)
                except (GrapeError, TimeoutError) as error:
                    self.ready, self.reason = False, str(error) or "no answer in time"
                except Exception as error:
                    # An unexpected failure of the engine must not end the supervision silently.
                    self.ready, self.reason = False, f"the language model failed ({error!r})"
                    log.exception("the language model failed")
                log.warning("Searches go on without rewriting: %s", self.reason)
                await self.drop()
                await asyncio.to_thread(give_back_memory)
                await asyncio.sleep(RESTART_AFTER_S[min(failures, len(RESTART_AFTER_S) - 1)])
                failures += 1
        finally:
            self.ready, self.reason = False, "shutting down"
            await self.drop()

    async def idle(self) -> None:
        """Returns when no request waits for a rewrite: soon, as every rewrite has a deadline."""
        while self._busy:
            await asyncio.sleep(0.05)

    async def rewrite(
        self, prompt: Prompt, sampling: Sampling, on_text: OnText | None = None
    ) -> Rewritten:
        """Rewrites one query within the deadline. Never raises for a failure of the rewriter."""
        # The adapter may have been trained on the short prompt.
        prompt = prompt._replace(task=self._tasks.get(prompt.task.name, prompt.task))
        if not self.ready or self._rewriter is None:
            return await self._kept(prompt, sampling)
        self._busy += 1
        try:
            return await self._before_deadline(self._rewriter, prompt, sampling, on_text)
        finally:
            self._busy -= 1

    async def compare(self, asked: Comparison) -> Compared:
        """Scores texts for a query within the deadline. Never raises for a failure of the model."""
        if (kept := self._scorer.kept(asked)) is not None:
            return Compared(kept, adapter=self.adapter, groups=_groups(asked))
        rewriter = self._rewriter
        if not self.ready or rewriter is None:
            return Compared([], f"the language model is not ready: {self.reason}", "not_ready")
        self._busy += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                scores = await self._scorer.scores(rewriter, asked)
        except TimeoutError:
            return Compared([], f"no scores within {self._timeout_s:g} s", "timeout")
        except RewriterDown as error:
            self.ready, self.reason = False, str(error)
            return Compared([], f"the language model is down: {error}", "down")
        except ScoresHidden as error:
            return Compared([], str(error), "unusable")
        except RewriteFailed as error:
            return Compared([], f"the language model failed: {error}", "failed")
        finally:
            self._busy -= 1
        return Compared(scores, adapter=self.adapter, groups=_groups(asked))

    async def _kept(self, prompt: Prompt, sampling: Sampling) -> Rewritten:
        """What was written before the rewriter went down."""
        kept = await self._cache.find(RewriteKey.of(self.adapter, prompt, sampling))
        if kept is None:
            return Rewritten([], f"the rewriter is not ready: {self.reason}", "not_ready")
        return Rewritten(kept.rewrites, "", adapter=self.adapter)

    async def _before_deadline(
        self, rewriter: Rewriter, prompt: Prompt, sampling: Sampling, on_text: OnText | None
    ) -> Rewritten:
        sampling = self._within_load(prompt, sampling)
        key = RewriteKey.of(self.adapter, prompt, sampling)
        enough_s = _ENOUGH * self._timeout_s

        async def write() -> Written:
            async with asyncio.timeout(self._timeout_s):  # no request must join a hanging rewrite
                answers, unfinished = await rewriter.complete(prompt, sampling, on_text, enough_s)
            if rewrites := usable_rewrites(answers):
                return Written(rewrites, unfinished)
            raise NothingUsable("the rewriter wrote nothing usable")

        try:
            async with asyncio.timeout(self._timeout_s):
                rewrites, unfinished = await self._cache.get(key, write)
        except TimeoutError:
            return Rewritten([], f"no rewrite within {self._timeout_s:g} s", "timeout")
        except RewriterDown as error:
            self.ready, self.reason = False, str(error)
            return Rewritten([], f"the rewriter is down: {error}", "down")
        except NothingUsable as error:
            return Rewritten([], str(error), "unusable")
        except (
            RewriteFailed,
            PictureError,
        ) as error:  # the image file may have changed
            return Rewritten([], f"the rewriter failed: {error}", "failed")
        many = f"{unfinished} rewrite{'s' if unfinished > 1 else ''}"
        late = f"{many} took longer than {enough_s:g} s" if unfinished else ""
        return Rewritten(rewrites, late, adapter=self.adapter)

    def _within_load(self, prompt: Prompt, sampling: Sampling) -> Sampling:
        """Fewer rewrites under load, if the request leaves their number open.

        A query has its share of what the engine writes at once, among the queries that are under
        way when it begins.
        """
        if sampling.coverage == 1 or self._cache.has(RewriteKey.of(self.adapter, prompt, sampling)):
            return sampling
        room = max(1, self._at_once // (self._cache.under_way + 1))
        return sampling._replace(n=min(sampling.n, room))

    async def _watch(self, rewriter: Rewriter) -> None:
        """Never returns. Raises when the rewriter is down."""
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            if not self.ready:
                raise RewriterDown(self.reason)
            await rewriter.check()

    async def drop(self) -> None:
        """Closes the rewriter. :meth:`begin` starts a new one."""
        self.ready = False
        rewriter, self._rewriter = self._rewriter, None
        if rewriter:
            with contextlib.suppress(Exception):  # it may be dead already
                await rewriter.close()

    def _close_late(self, starting: asyncio.Future[Rewriter]) -> None:
        if starting.cancelled() or starting.exception():
            return
        closing = asyncio.ensure_future(starting.result().close())
        self._late.add(closing)
        closing.add_done_callback(self._late.discard)


def _groups(asked: Comparison) -> int:
    return len(groups_of(len(asked.texts), asked.passes)) if asked.by == "group" else 0


def _warn_of_other_queries(adapter: Adapter | None) -> None:
    """Says if the queries that the adapter was trained on had another form."""
    if adapter and adapter.manifest.normalisation not in (None, normalise.version()):
        log.warning(
            "The adapter %s was trained on queries that were normalised in another way; "
            "train it again to be sure of its recall.",
            adapter.name,
        )
