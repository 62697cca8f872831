"""Each rewrite is written once."""

import asyncio
from functools import partial

import httpx
import pytest

from models.rewriter.protocol import Prompt, RewriteFailed, RewriterDown, Sampling
from models.rewriter.rewrites import Rewrite
from models.rewriter.tasks import COMPOSED, MULTILINGUAL
from models.rewriter.vision import SEEN
from service.monitoring.metrics import Metrics
from service.rewriting.cache import RewriteCache, RewriteKey, Written
from tests.support.app import FakeRewriter

GERMAN = "ein rotes Bild"


async def rewritten(client: httpx.AsyncClient, query: str, **body: object) -> str:
    answer = await client.post("/rewrite", json={"query": query, **body})
    (result,) = answer.json()["results"]
    return str(result["status"])


async def test_the_same_query_is_asked_once(
    client: httpx.AsyncClient, rewriter: FakeRewriter
) -> None:
    rewriter.calls.clear()
    for query in (GERMAN, GERMAN, f"  {GERMAN.replace(' ', '   ')} "):
        assert await rewritten(client, query) == "rewritten"
    assert len(rewriter.calls) == 1
    await rewritten(client, GERMAN, n=2, temperature=1)
    await rewritten(client, GERMAN, task="long")
    await rewritten(client, GERMAN.upper())
    assert len(rewriter.calls) == 4
    exposed = (await client.get("/metrics")).text
    assert 'grape_rewrite_cache_total{source="kept"} 2.0' in exposed
    assert 'grape_rewrite_cache_total{source="new"} 4.0' in exposed


async def test_identical_queries_at_once_are_asked_once(
    client: httpx.AsyncClient, rewriter: FakeRewriter
) -> None:
    rewriter.calls.clear()
    rewriter.delay = 0.1
    found = await asyncio.gather(*(rewritten(client, "ein blaues Bild") for _ in range(8)))
    assert found == ["rewritten"] * 8
    assert len(rewriter.calls) == 1


async def test_a_failure_is_not_kept(client: httpx.AsyncClient, rewriter: FakeRewriter) -> None:
    rewriter.error = RewriteFailed("no")
    assert await rewritten(client, GERMAN) == "fallback"
    rewriter.error = None
    assert await rewritten(client, GERMAN) == "rewritten"


async def test_what_is_kept_is_used_while_the_rewriter_is_down(
    client: httpx.AsyncClient, rewriter: FakeRewriter
) -> None:
    before = (await client.post("/search", json={"query": "ein rotes Bild"})).json()
    assert before["rewrite"]["texts"] == ["a red square"]
    rewriter.error = RewriterDown("dead")
    new = (await client.post("/search", json={"query": "ein blaues Bild"})).json()
    assert new["rewrite"]["status"] == "fallback"
    assert not (await client.get("/readyz")).is_success
    kept = (await client.post("/search", json={"query": "ein rotes Bild"})).json()
    assert (kept["rewrite"], kept["hits"], kept["degraded"]) == (
        before["rewrite"],
        before["hits"],
        False,
    )
    new = (await client.post("/search", json={"query": "ein blaues Bild"})).json()
    assert new["rewrite"]["status"] == "fallback"


async def test_none_is_kept_where_that_is_asked_for(start, rewriter: FakeRewriter) -> None:  # type: ignore[no-untyped-def]
    client = await start(rewrite_cache=0)
    rewriter.calls.clear()
    await rewritten(client, GERMAN)
    await rewritten(client, GERMAN)
    assert len(rewriter.calls) == 2


A = Written([Rewrite("a", 0.5)])


def key(query: str) -> RewriteKey:
    return RewriteKey.of(None, Prompt(MULTILINGUAL, query), Sampling())


def test_another_form_of_queries_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key("red")
    assert key("red") == before
    monkeypatch.setattr("models.search.normalise.version", lambda: "another form")
    assert key("red") != before


async def test_one_who_leaves_does_not_stop_another() -> None:
    cache = RewriteCache(10, Metrics())
    ended: list[str] = []

    async def write() -> Written:
        try:
            await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return A

    one, two = (asyncio.create_task(cache.get(key("one"), write)) for _ in range(2))
    await asyncio.sleep(0.01)
    one.cancel()
    assert await two == A
    three = asyncio.create_task(cache.get(key("other"), write))
    await asyncio.sleep(0.01)
    three.cancel()
    with pytest.raises(asyncio.CancelledError):
        await three
    await asyncio.sleep(0)
    assert ended == ["cancelled"]
    assert await cache.get(key("other"), write) == A


async def test_the_least_used_is_given_up() -> None:
    cache = RewriteCache(2, Metrics())
    written: list[str] = []

    async def write(query: str) -> Written:
        written.append(query)
        return Written([Rewrite(query)])

    for query in ("a", "b", "a", "c", "a", "b"):
        assert await cache.get(key(query), partial(write, query)) == Written([Rewrite(query)])
    assert written == ["a", "b", "c", "b"]


def test_what_is_asked_of_a_seen_picture_is_told_apart_to_its_end() -> None:
    """A model that sees is shown more of a query than one that is told of the picture."""
    shared = "a little darker, " * 60
    assert COMPOSED.max_chars < len(shared) < SEEN.max_chars
    prompts = [
        Prompt(COMPOSED, f"{shared} and {end}", b"picture") for end in ("at night", "in snow")
    ]
    keys = {RewriteKey.of(None, prompt, Sampling()) for prompt in prompts}
    keys.add(RewriteKey.of(None, prompts[0]._replace(picture=b"other"), Sampling()))
    keys.add(RewriteKey.of(None, prompts[0]._replace(picture=None), Sampling()))
    assert len(keys) == 4


async def test_what_is_incomplete_is_not_kept() -> None:
    cache = RewriteCache(10, Metrics())
    calls: list[Written] = []

    async def write() -> Written:
        calls.append(Written(A.rewrites, unfinished=0 if calls else 3))
        return calls[-1]

    for unfinished in (3, 0, 0):
        assert (await cache.get(key("one"), write)).unfinished == unfinished
    assert len(calls) == 2
