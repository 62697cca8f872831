"""Rewrites in Redis: shared by several servers, and kept across restarts.

Redis is optional at run time: if it does not answer at once, the rewrite is made again.
"""

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import TypeAdapter, ValidationError

from models.common.errors import InputError
from models.rewriter.rewrites import Rewrite
from service.rewriting.cache import RewriteKey

log = logging.getLogger("grape")

TIMEOUT_S = 0.1  # a third of the time of a rewrite
RETRY_AFTER_S = 10.0  # pause after a failure of Redis
_CONNECTIONS = 8
_FORMAT = 2
_REWRITES: TypeAdapter[list[Rewrite]] = TypeAdapter(list[Rewrite])


class RedisStore:
    """JSON lists under hashed keys.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        ttl_s: how long a rewrite is kept, in seconds.
        model: the base model with its revision, because Redis outlives the server.

    Raises:
        InputError: an invalid address, or a missing package.
    """

    def __init__(self, url: str, ttl_s: int, model: str) -> None:
        try:
            from redis.asyncio import ConnectionPool, Redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
        except ModuleNotFoundError as error:
            raise InputError(
                "--redis-url needs the package redis: install GRAPE with its extra 'redis'."
            ) from error
        try:
            pool = ConnectionPool.from_url(
                url,
                max_connections=_CONNECTIONS,
                socket_connect_timeout=TIMEOUT_S,
                socket_timeout=TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),  # the default retries for seconds
            )
        except ValueError as error:  # its message may contain the password
            raise InputError(
                "--redis-url must be redis://HOST:PORT/NUMBER, rediss://... or unix://PATH."
            ) from error
        self._redis = Redis.from_pool(pool)
        self._ttl_s = ttl_s
        self._model = model
        self._paused_until = 0.0
        self._failing = False
        self._slots = asyncio.Semaphore(_CONNECTIONS)
        self._putting: set[asyncio.Task[Any]] = set()

    async def get(self, key: RewriteKey) -> list[Rewrite] | None:
        """The rewrites. None if there is none, or if Redis does not answer in time."""
        value = await self._ask(lambda: self._redis.get(self._name(key)))
        try:
            return _REWRITES.validate_json(value) or None if value else None
        except ValidationError:
            return None

    def put(self, key: RewriteKey, rewrites: list[Rewrite]) -> None:
        name, value = self._name(key), json.dumps(rewrites)
        putting = asyncio.create_task(
            self._ask(lambda: self._redis.set(name, value, ex=self._ttl_s))
        )
        self._putting.add(putting)
        putting.add_done_callback(self._putting.discard)

    async def close(self) -> None:
        for putting in self._putting:
            putting.cancel()
        await self._redis.aclose()

    async def _ask(self, command: Callable[[], Awaitable[Any]]) -> Any:
        """The answer of Redis. None if it fails, or during the pause after a failure."""
        from redis.exceptions import RedisError

        # Waiting for a connection does not count towards the deadline.
        async with self._slots:
            now = time.monotonic()
            if now < self._paused_until:
                return None
            trying_again = self._failing
            if trying_again:  # other requests must not wait for this attempt
                self._paused_until = now + RETRY_AFTER_S
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    answer = await command()
            except (RedisError, OSError, TimeoutError) as error:
                self._paused_until = time.monotonic() + RETRY_AFTER_S
                if not self._failing:
                    reason = str(error) or "no answer in time"
                    log.warning("Redis fails; rewrites are kept in memory only: %s", reason)
                self._failing = True
                return None
            if trying_again:
                log.info("Redis answers again.")
                self._failing, self._paused_until = False, 0.0
            return answer

    def _name(self, key: RewriteKey) -> str:
        parts = json.dumps([_FORMAT, self._model, *key])
        return f"grape:rewrite:{hashlib.sha256(parts.encode()).hexdigest()}"
