"""Rewrites that were written before, and those that are being written, each asked for once."""

import asyncio
import functools
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from cachetools import LRUCache

from models.rewriter.protocol import Prompt, Sampling
from models.rewriter.tasks import Task
from models.rewriter.vision import SeenTask
from service.monitoring.metrics import Metrics


class RewriteKey(NamedTuple):
    """All that a rewrite hangs on, but for the base model, of which a server has one."""

    adapter: str | None
    task: str  # hash of prompt and parser
    prompt: str  # holds the query, with its spaces evened out
    picture: str  # hash
    n: int
    temperature: float

    @classmethod
    def of(cls, adapter: str | None, prompt: Prompt, sampling: Sampling) -> "RewriteKey":
        picture = hashlib.sha256(prompt.picture).hexdigest() if prompt.picture else ""
        return cls(
            adapter, _hash(prompt.form), prompt.form.prompt(prompt.query), picture, *sampling
        )


class SharedStore(Protocol):
    """Where several servers keep their rewrites; it may be slow or gone and never raises."""

    async def get(self, key: RewriteKey) -> list[str] | None:
        """Soon: the kept rewrite, or None."""

    def put(self, key: RewriteKey, texts: list[str]) -> None:
        """Returns at once."""

    async def close(self) -> None:
        """Gives up what is still to be put."""


@dataclass
class _Flight:
    """A rewrite on its way, and how many requests wait for it."""

    task: asyncio.Task[list[str]]
    waiting: int = 0


Write = Callable[[], Coroutine[Any, Any, list[str]]]


class RewriteCache:
    """In memory, the least recently used given up first; a shared store behind it is asked once
    for each. Failures are not kept.
    """

    def __init__(self, size: int, metrics: Metrics, shared: SharedStore | None = None) -> None:
        self._kept: LRUCache[RewriteKey, list[str]] = LRUCache(max(size, 1))
        self._flights: dict[RewriteKey, _Flight] = {}
        self._size = size
        self._unshared = 0
        self._metrics = metrics
        self._shared = shared

    @property
    def under_way(self) -> int:
        """Rewrites that are being written."""
        return len(self._flights) + self._unshared

    async def get(self, key: RewriteKey, write: Write) -> list[str]:
        """The kept rewrite, or that which another request waits for already, or a new one.

        Cancelled, it stops the writing only where nobody else waits for it.
        """
        if not self._size and not self._shared:
            self._unshared += 1
            try:
                return await write()
            finally:
                self._unshared -= 1
        if key in self._kept:
            self._metrics.cached("kept")
            return self._kept[key]
        flight = self._flights.get(key)
        if flight:
            self._metrics.cached("joined")
        else:
            made = asyncio.create_task(self._made(key, write))
            flight = self._flights[key] = _Flight(made)
            made.add_done_callback(lambda task: self._land(key, task))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._flights.pop(key, None)  # whoever comes now must not join what is ending
                flight.task.cancel()

    async def close(self) -> None:
        if self._shared:
            await self._shared.close()

    async def _made(self, key: RewriteKey, write: Write) -> list[str]:
        if self._shared and (texts := await self._shared.get(key)):
            self._metrics.cached("redis")
            return texts
        self._metrics.cached("new")
        texts = await write()
        if self._shared:
            self._shared.put(key, texts)
        return texts

    def _land(self, key: RewriteKey, task: asyncio.Task[list[str]]) -> None:
        if (flight := self._flights.get(key)) and flight.task is task:
            del self._flights[key]
        if self._size and not task.cancelled() and not task.exception():
            self._kept[key] = task.result()


@functools.cache
def _hash(form: Task | SeenTask) -> str:
    """There are few prompts, and the hash reads source code."""
    return form.hash
