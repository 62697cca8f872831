"""Rewrites that were written before, and those that are being written, each asked for once."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache

from service.metrics import Metrics


@dataclass
class _Flight:
    """A rewrite on its way, and how many requests wait for it."""

    task: asyncio.Task[list[str]]
    waiting: int = 0


class RewriteCache:
    """In memory, the least recently used given up first. Failures are not kept."""

    def __init__(self, size: int, metrics: Metrics) -> None:
        self._kept: LRUCache[Hashable, list[str]] = LRUCache(max(size, 1))
        self._flights: dict[Hashable, _Flight] = {}
        self._off = size == 0
        self._unshared = 0
        self._metrics = metrics

    @property
    def under_way(self) -> int:
        """Rewrites that are being written."""
        return len(self._flights) + self._unshared

    async def get(
        self, key: Hashable, write: Callable[[], Coroutine[Any, Any, list[str]]]
    ) -> list[str]:
        """The kept rewrite, or that which another request waits for already, or a new one.

        Cancelled, it stops the writing only where nobody else waits for it.
        """
        if self._off:
            self._unshared += 1
            try:
                return await write()
            finally:
                self._unshared -= 1
        if key in self._kept:
            self._metrics.cached("kept")
            return self._kept[key]
        flight = self._flights.get(key)
        self._metrics.cached("joined" if flight else "new")
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(write()))
            flight.task.add_done_callback(lambda task: self._land(key, task))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._flights.pop(key, None)  # whoever comes now must not join what is ending
                flight.task.cancel()

    def _land(self, key: Hashable, task: asyncio.Task[list[str]]) -> None:
        if (flight := self._flights.get(key)) and flight.task is task:
            del self._flights[key]
        if not task.cancelled() and not task.exception():
            self._kept[key] = task.result()
