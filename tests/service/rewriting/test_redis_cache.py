"""Rewrites in a real Redis, and searches without it."""

import asyncio
import json
import logging
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from redis.asyncio import Redis

from models.common.errors import InputError
from models.rewriter.protocol import Prompt, Sampling
from models.rewriter.rewrites import Rewrite
from models.rewriter.tasks import LONG, MULTILINGUAL
from service.monitoring.metrics import Metrics
from service.rewriting import redis_cache as redis_store
from service.rewriting.cache import RewriteCache, RewriteKey, Written
from service.rewriting.redis_cache import RedisStore
from tests.support.app import FakeRewriter

needs_redis = pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server here")
KEY = RewriteKey.of("long-multilingual-0", Prompt(MULTILINGUAL, "ein Hund"), Sampling())


class RunningRedis(NamedTuple):
    url: str
    process: subprocess.Popen[bytes]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRedis]:
    port = free_port()
    process = subprocess.Popen(
        ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", ""],
        cwd=tmp_path_factory.mktemp("redis"),
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield RunningRedis(f"redis://127.0.0.1:{port}/0", process)
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(10)


@pytest.fixture
async def inspect(running: RunningRedis) -> AsyncIterator[Any]:
    """A client of the test's own, on an empty Redis."""
    client = Redis.from_url(running.url, decode_responses=True)
    await client.flushall()
    yield client
    await client.aclose()


def rewrites(*texts: str) -> list[Rewrite]:
    return [Rewrite(text, 0.5) for text in texts]


async def put(store: RedisStore, key: RewriteKey, *texts: str) -> None:
    store.put(key, rewrites(*texts))
    await asyncio.gather(*store._putting)


@needs_redis
async def test_a_rewrite_outlasts_the_server(running: RunningRedis, inspect: Any) -> None:
    writer, reader = (RedisStore(running.url, 60, "gemma 1") for _ in range(2))
    await put(writer, KEY, "a dog", "雪")
    assert await reader.get(KEY) == rewrites("a dog", "雪")
    (name,) = await inspect.keys("*")
    assert json.loads(await inspect.get(name)) == [["a dog", 0.5], ["雪", 0.5]]
    assert 0 < await inspect.ttl(name) <= 60
    assert "Hund" not in name
    await asyncio.gather(writer.close(), reader.close())


@needs_redis
async def test_whatever_a_rewrite_hangs_on_is_in_its_key(
    running: RunningRedis, inspect: Any
) -> None:
    store = RedisStore(running.url, 60, "gemma 1")
    await put(store, KEY, "a dog")
    prompt = Prompt(MULTILINGUAL, "ein Hund")
    others = [
        RewriteKey.of("long-multilingual-1", prompt, Sampling()),
        RewriteKey.of(None, prompt, Sampling()),
        RewriteKey.of(KEY.adapter, Prompt(MULTILINGUAL, "zwei Hunde"), Sampling()),
        RewriteKey.of(KEY.adapter, Prompt(MULTILINGUAL.short, "ein Hund"), Sampling()),
        RewriteKey.of(KEY.adapter, Prompt(LONG, "ein Hund"), Sampling()),
        RewriteKey.of(KEY.adapter, Prompt(MULTILINGUAL, "ein Hund", b"picture"), Sampling()),
        RewriteKey.of(KEY.adapter, prompt, Sampling(n=2)),
        RewriteKey.of(KEY.adapter, prompt, Sampling(temperature=1.0)),
        RewriteKey.of(KEY.adapter, prompt, Sampling(coverage=0.5)),
        KEY._replace(task="another parser"),
    ]
    assert [await store.get(key) for key in others] == [None] * len(others)
    same = Prompt(MULTILINGUAL, "  ein \n Hund ")
    assert await store.get(RewriteKey.of(KEY.adapter, same, Sampling())) == rewrites("a dog")
    other_model = RedisStore(running.url, 60, "gemma 2")
    assert await other_model.get(KEY) is None
    await asyncio.gather(store.close(), other_model.close())


@needs_redis
@pytest.mark.parametrize("value", ["", "nonsense", "{}", "[1]", "[]", '"text"', b"\xff\xfe"])
async def test_what_is_no_rewrite_is_written_anew(
    running: RunningRedis, inspect: Any, value: str
) -> None:
    store = RedisStore(running.url, 60, "gemma 1")
    await inspect.set(store._name(KEY), value)
    assert await store.get(KEY) is None
    await inspect.delete(store._name(KEY))
    await inspect.rpush(store._name(KEY), "another type")
    assert await store.get(KEY) is None
    await store.close()


@needs_redis
async def test_a_crowd_is_answered(
    running: RunningRedis, inspect: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store = RedisStore(running.url, 60, "gemma 1")
    keys = [KEY._replace(prompt=str(number)) for number in range(256)]
    cache = RewriteCache(1000, Metrics(), store)

    async def write() -> Written:
        return Written(rewrites("a dog"))

    await asyncio.gather(*(cache.get(key, write) for key in keys))
    await asyncio.gather(*store._putting)
    assert len(await inspect.keys("*")) == 256
    assert not caplog.records
    await cache.close()


@needs_redis
async def test_a_redis_that_hangs_delays_nobody_twice(
    running: RunningRedis,
    inspect: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO, "grape")
    monkeypatch.setattr(redis_store, "RETRY_AFTER_S", 0.3)
    store = RedisStore(running.url, 60, "gemma 1")
    await put(store, KEY, "a dog")
    running.process.send_signal(signal.SIGSTOP)
    try:
        started = time.perf_counter()
        assert await store.get(KEY) is None
        assert time.perf_counter() - started < 2 * redis_store.TIMEOUT_S
        started = time.perf_counter()
        for _ in range(100):
            assert await store.get(KEY) is None
        assert time.perf_counter() - started < 0.05
        await asyncio.sleep(0.35)
        # It is tried again by one request, and by that alone.
        started = time.perf_counter()
        await asyncio.gather(*(store.get(KEY) for _ in range(20)))
        assert time.perf_counter() - started < 2 * redis_store.TIMEOUT_S
        assert len(caplog.records) == 1
        assert "rewrites are kept in memory only" in caplog.text
    finally:
        running.process.send_signal(signal.SIGCONT)
    await asyncio.sleep(0.35)
    assert await store.get(KEY) == rewrites("a dog")
    assert "Redis answers again" in caplog.records[-1].message
    await store.close()


@needs_redis
async def test_two_servers_share_what_they_write(
    start: Callable[..., Any], rewriter: FakeRewriter, running: RunningRedis, inspect: Any
) -> None:
    wishes = {"redis_url": running.url, "llm": "somebody/model", "prompt_style": "plain"}
    one, two = await start(**wishes), await start(**wishes)
    rewriter.calls.clear()
    body = {"query": "ein rotes Bild", "rewrite": "always", "k": 1}
    first = (await one.post("/search", json=body)).json()
    while not await inspect.keys("*"):
        await asyncio.sleep(0.01)
    second = (await two.post("/search", json=body)).json()
    assert first["rewrite"] == second["rewrite"]
    assert first["rewrite"]["texts"] == ["a red square"]
    assert len(rewriter.calls) == 1
    assert 'grape_rewrite_cache_total{source="new"} 1.0' in (await one.get("/metrics")).text
    exposed = (await two.get("/metrics")).text
    assert 'grape_rewrite_cache_total{source="redis"} 1.0' in exposed
    assert 'source="new"' not in exposed
    await two.post("/search", json=body)
    assert 'grape_rewrite_cache_total{source="kept"} 1.0' in (await two.get("/metrics")).text


async def test_a_redis_that_is_not_there_fails_no_search(
    start: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    client = await start(
        redis_url=f"redis://:secret@127.0.0.1:{free_port()}",
        llm="somebody/model",
        prompt_style="plain",
    )
    for query in ("eins", "zwei", "drei"):
        answer = (await client.post("/search", json={"query": query, "rewrite": "always"})).json()
        assert answer["rewrite"]["status"] == "rewritten"
        assert answer["timings_ms"]["rewrite"] < 150
    assert len([r for r in caplog.records if "Redis" in r.message]) == 1
    assert "secret" not in caplog.text


@pytest.mark.parametrize("url", ["localhost", "http://secret@x", "redis://secret@x:port", ""])
def test_an_address_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError, match="--redis-url must be") as refusal:
        RedisStore(url, 60, "gemma 1")
    assert "secret" not in str(refusal.value)
