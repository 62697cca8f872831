"""Rewrites in Redis: shared by several servers, and there after a restart.

Redis is a help and never a condition: what it does not answer at once is written anew.
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
from service.rewriting.cache import RewriteKey

log = logging.getLogger("grape")

TIMEOUT_S = 0.1  # a rewrite takes three times as long
RETRY_AFTER_S = 10.0  # a Redis that fails is left alone meanwhile
_CONNECTIONS = 8
_FORMAT = 1
_TEXTS: TypeAdapter[list[str]] = TypeAdapter(list[str])


class RedisStore:
    """JSON lists under hashed keys.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        ttl_s: how long a rewrite is kept.
        model: the base model with its revision: Redis outlives the server that asked it.

    Raises:
        InputError: an address that is none, or a missing package.
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
                retry=Retry(NoBackoff(), 0),  # it would try for seconds
            )
        except ValueError as error:  # it may quote the address, and with it the password
            raise InputError(
                "--redis-url must be redis://HOST:PORT/NUMBER, rediss://... or unix://PATH."
            ) from error
        self._redis = Redis.from_pool(pool)
        self._ttl_s = ttl_s
        self._model = model
        self._left_alone_until = 0.0
        self._failing = False
        self._turns = asyncio.Semaphore(_CONNECTIONS)
        self._putting: set[asyncio.Task[Any]] = set()

    async def get(self, key: RewriteKey) -> list[str] | None:
        """None also where Redis does not answer in time, or holds something else there."""
        value = await self._answer(lambda: self._redis.get(self._name(key)))
        try:
            return _TEXTS.validate_json(value) or None if value else None
        except ValidationError:
            return None

    def put(self, key: RewriteKey, texts: list[str]) -> None:
        name, value = self._name(key), json.dumps(texts)
        putting = asyncio.create_task(
            self._answer(lambda: self._redis.set(name, value, ex=self._ttl_s))
        )
        self._putting.add(putting)
        putting.add_done_callback(self._putting.discard)

    async def close(self) -> None:
        for putting in self._putting:
            putting.cancel()
        await self._redis.aclose()

    async def _answer(self, command: Callable[[], Awaitable[Any]]) -> Any:
        """What Redis says, or None when it fails or is left alone."""
        from redis.exceptions import RedisError

        # A crowd waits for its turns outside of the deadline, which is Redis's and not ours.
        async with self._turns:
            now = time.monotonic()
            if now < self._left_alone_until:
                return None
            trying_again = self._failing
            if trying_again:  # the others need not wait with this one
                self._left_alone_until = now + RETRY_AFTER_S
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    answer = await command()
            except (RedisError, OSError, TimeoutError) as error:
                self._left_alone_until = time.monotonic() + RETRY_AFTER_S
                if not self._failing:
                    reason = str(error) or "no answer in time"
                    log.warning("Redis fails; rewrites are kept in memory alone: %s", reason)
                self._failing = True
                return None
            if trying_again:
                log.info("Redis answers again.")
                self._failing, self._left_alone_until = False, 0.0
            return answer

    def _name(self, key: RewriteKey) -> str:
        parts = json.dumps([_FORMAT, self._model, *key])
        return f"grape:rewrite:{hashlib.sha256(parts.encode()).hexdigest()}"
