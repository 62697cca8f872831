"""The rewriter's life in the service: started, proved, watched, started again when it dies."""

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from models.adapter import Adapter, unapplied_canaries
from models.errors import GrapeError
from models.rewriter import Ask, OnText, RewriteFailed, Rewriter, RewriterDown, Sampling
from models.tasks import MULTILINGUAL, parse_rewrite
from service.metrics import Cause
from service.rewrite_cache import RewriteCache

log = logging.getLogger("grape")

CHECK_EVERY_S = 1.0
RESTART_AFTER_S = (1.0, 10.0, 60.0)  # then every minute
CANARY_TIMEOUT_S = 120.0  # the first answers of a cold engine are slow
CANARY = "ein Hund im Schnee"


class Rewritten(NamedTuple):
    """The rewrites of one query, or why there are none."""

    texts: list[str]
    reason: str
    cause: Cause | None = None  # the reason as one word of a closed list


class NothingUsable(RewriteFailed):
    """The language model answered, but not with a rewrite."""


StartRewriter = Callable[[], Awaitable[Rewriter]]


class RewriterHost:
    """Holds the one rewriter. Until it has proved itself, and after it has died, rewriting fails
    with
    a reason and searches go on without it."""

    def __init__(
        self,
        start: StartRewriter | None,
        adapter: Adapter | None,
        timeout_s: float,
        cache: RewriteCache,
    ) -> None:
        self._start = start
        self._cache = cache
        self._adapter = adapter
        self._timeout_s = timeout_s
        self._rewriter: Rewriter | None = None
        self.ready = False
        self.reason = "still loading" if start else "switched off with llm 'none'"

    @property
    def switched_off(self) -> bool:
        """Whether this server was told to rewrite nothing."""
        return self._start is None

    @property
    def adapter(self) -> str | None:
        return self._adapter.name if self._adapter else None

    @property
    def sees_pictures(self) -> bool:
        return self._rewriter is not None and self._rewriter.sees_pictures

    async def run(self) -> None:
        """Keeps a rewriter alive until cancelled."""
        if self._start is None:
            return
        failures = 0
        try:
            while True:
                try:
                    self._rewriter = await self._start()
                    await self._prove(self._rewriter)
                    self.ready, self.reason, failures = True, "", 0
                    log.info("The language model is ready.")
                    await self._watch(self._rewriter)
                except (GrapeError, TimeoutError) as error:
                    self.ready, self.reason = False, str(error) or "no answer in time"
                except Exception as error:
                    # An unforeseen failure of the engine must not end the supervision silently.
                    self.ready, self.reason = False, f"the language model failed ({error!r})"
                    log.exception("the language model failed")
                log.warning("Searches go on without rewriting: %s", self.reason)
                await self._drop()
                await asyncio.sleep(RESTART_AFTER_S[min(failures, len(RESTART_AFTER_S) - 1)])
                failures += 1
        finally:
            self.ready, self.reason = False, "shutting down"
            await self._drop()

    async def rewrite(
        self, ask: Ask, sampling: Sampling, on_text: OnText | None = None
    ) -> Rewritten:
        """Rewrites one query within the deadline; never raises for a rewriter's failure."""
        if not self.ready or self._rewriter is None:
            return Rewritten([], f"the rewriter is not ready: {self.reason}", "not_ready")
        if self._adapter:  # it may have been trained on the short prompt
            ask = ask._replace(task=self._adapter.tasks.get(ask.task.name, ask.task))
        rewriter = self._rewriter
        key = (self.adapter, *_content(ask), sampling)

        async def write() -> list[str]:
            async with asyncio.timeout(self._timeout_s):  # so that nobody joins what hangs
                return await _written(rewriter, ask, sampling, on_text)

        try:
            async with asyncio.timeout(self._timeout_s):
                texts = await self._cache.get(key, write)
        except TimeoutError:
            return Rewritten([], f"no rewrite within {self._timeout_s:g} s", "timeout")
        except RewriterDown as error:
            self.ready, self.reason = False, str(error)
            return Rewritten([], f"the rewriter is down: {error}", "down")
        except NothingUsable as error:
            return Rewritten([], str(error), "unusable")
        except RewriteFailed as error:
            return Rewritten([], f"the rewriter failed: {error}", "failed")
        return Rewritten(texts, "")

    async def _prove(self, rewriter: Rewriter) -> None:
        """Asks the canaries: an answer at all, and with an adapter another one than the base's."""
        async with asyncio.timeout(CANARY_TIMEOUT_S):
            await rewriter.check()
            if self._adapter is None:
                answers = await rewriter.complete(MULTILINGUAL, CANARY, Sampling())
                if not any(map(parse_rewrite, answers)):
                    raise RewriterDown(f"the language model wrote nothing usable for {CANARY!r}")
                return
            tasks = self._adapter.tasks
            written = [
                await rewriter.complete(tasks[canary.task], canary.query, Sampling())
                for canary in self._adapter.manifest.canaries
            ]
        silent = unapplied_canaries(self._adapter, [texts[0] for texts in written])
        if silent:
            raise RewriterDown(
                f"the adapter {self._adapter.name} is not applied: the base model's answer came "
                f"back for {silent[0]!r}"
            )

    async def _watch(self, rewriter: Rewriter) -> None:
        """Returns never; raises when the rewriter is gone."""
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            if not self.ready:
                raise RewriterDown(self.reason)
            await rewriter.check()

    async def _drop(self) -> None:
        rewriter, self._rewriter = self._rewriter, None
        if rewriter:
            with contextlib.suppress(Exception):  # it may be half dead; nothing more can be done
                await rewriter.close()


def _content(ask: Ask) -> tuple[str, int, str]:
    """What the answer hangs on; the prompt's text holds the query with its spaces evened out."""
    picture = hashlib.sha256(ask.picture).hexdigest() if ask.picture else ""
    return ask.task.prompt(ask.query), ask.task.max_tokens, picture


async def _written(
    rewriter: Rewriter, ask: Ask, sampling: Sampling, on_text: OnText | None
) -> list[str]:
    """The usable rewrites, each once.

    Raises:
        NothingUsable: there is none.
    """
    answers = await rewriter.complete(ask.task, ask.query, sampling, on_text, ask.picture)
    parsed = [text for answer in answers if (text := parse_rewrite(answer))]
    if not parsed:
        raise NothingUsable("the rewriter wrote nothing usable")
    return list(dict.fromkeys(parsed))
