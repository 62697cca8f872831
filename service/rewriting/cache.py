"""Cached rewrites, and rewrites in progress that several requests share."""

import asyncio
import functools
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from cachetools import LRUCache

from models.rewriter.protocol import Prompt, Sampling
from models.rewriter.rewrites import Rewrite
from models.rewriter.tasks import Task
from models.rewriter.vision import SeenTask
from models.search import normalise
from service.monitoring.metrics import Metrics


class RewriteKey(NamedTuple):
    """Everything that a rewrite depends on, except the base model: a server has only one."""

    adapter: str | None
    task: str  # hash of prompt and parser
    prompt: str  # includes the query, normalised
    picture: str  # hash
    n: int
    temperature: float
    coverage: float
    normalisation: str  # hash of the form of the query

    @classmethod
    def of(cls, adapter: str | None, prompt: Prompt, sampling: Sampling) -> "RewriteKey":
        picture = hashlib.sha256(prompt.picture).hexdigest() if prompt.picture else ""
        asked = prompt.form.prompt(prompt.query)
        return cls(adapter, _hash(prompt.form), asked, picture, *sampling, normalise.version())


class Written(NamedTuple):
    """What the model wrote for one prompt."""

    rewrites: list[Rewrite]  # the most probable first
    unfinished: int = 0  # rewrites that were given up at the deadline; then it is not kept


class SharedStore(Protocol):
    """Where several servers keep their rewrites. It may be slow or down, but never raises."""

    async def get(self, key: RewriteKey) -> list[Rewrite] | None:
        """The stored rewrites, or None. Answers soon."""

    def put(self, key: RewriteKey, rewrites: list[Rewrite]) -> None:
        """Returns at once."""

    async def close(self) -> None:
        """Drops pending puts."""


@dataclass
class _Flight:
    """A rewrite in progress, and how many requests wait for it."""

    task: asyncio.Task[Written]
    waiting: int = 0


Write = Callable[[], Coroutine[Any, Any, Written]]


class RewriteCache:
    """An LRU cache in memory, with an optional shared store behind it. Failures are not cached."""

    def __init__(self, size: int, metrics: Metrics, shared: SharedStore | None = None) -> None:
        self._kept: LRUCache[RewriteKey, Written] = LRUCache(max(size, 1))
        self._flights: dict[RewriteKey, _Flight] = {}
        self._size = size
        self._unshared = 0
        self._metrics = metrics
        self._shared = shared

    @property
    def size(self) -> int:
        """Prompts whose rewrites are kept in memory."""
        return self._size

    @property
    def under_way(self) -> int:
        """Number of prompts whose rewrites are being written."""
        return len(self._flights) + self._unshared

    async def get(self, key: RewriteKey, write: Write) -> Written:
        """The cached rewrites, those that another request waits for, or new ones.

        Cancelling stops a rewrite in progress only if no other request waits for it.
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
                self._flights.pop(key, None)  # a new request must not join it while it ends
                flight.task.cancel()

    async def close(self) -> None:
        if self._shared:
            await self._shared.close()

    async def find(self, key: RewriteKey) -> Written | None:
        """The cached rewrites, or None. Writes nothing."""
        if key in self._kept:
            self._metrics.cached("kept")
            return self._kept[key]
        if self._shared and (rewrites := await self._shared.get(key)):
            self._metrics.cached("redis")
            return Written(rewrites)
        return None

    def has(self, key: RewriteKey) -> bool:
        """Whether the rewrites are in memory, or being written."""
        return key in self._kept or key in self._flights

    async def _made(self, key: RewriteKey, write: Write) -> Written:
        if self._shared and (rewrites := await self._shared.get(key)):
            self._metrics.cached("redis")
            return Written(rewrites)
        self._metrics.cached("new")
        written = await write()
        if self._shared and not written.unfinished:
            self._shared.put(key, written.rewrites)
        return written

    def _land(self, key: RewriteKey, task: asyncio.Task[Written]) -> None:
        if (flight := self._flights.get(key)) and flight.task is task:
            del self._flights[key]
        if not self._size or task.cancelled() or task.exception():
            return
        if not task.result().unfinished:
            self._kept[key] = task.result()


@functools.cache
def _hash(form: Task | SeenTask) -> str:
    """Cached, because it formats the whole prompt and there are only a few."""
    return form.hash
