"""POST /search over the real encoder and index; only the rewriter is a fake."""

import asyncio

import httpx
import pytest

from models.client.wire import SearchResult
from models.retriever.clip_encoder import ClipEncoder
from models.rewriter.protocol import (
    Completions,
    Prompt,
    RewriteFailed,
    RewriterDown,
)
from tests.support.app import COLOURS, FakeRewriter
from tests.support.completions import completions

GERMAN = "ein rotes Bild"


async def search(client: httpx.AsyncClient, **body: object) -> SearchResult:
    response = await client.post("/search", json=body)
    assert response.status_code == 200, response.text
    assert response.headers["x-request-id"] == response.json()["request_id"]
    return SearchResult.model_validate_json(response.text, strict=True)


async def test_a_rewritten_search_says_what_it_searched(client: httpx.AsyncClient) -> None:
    result = await search(client, query=GERMAN, k=3)
    assert result.rewrite.status == "rewritten"
    assert result.rewrite.texts == ["a red square"]
    assert result.rewrite.clip_tokens == [5]
    assert [hit.rank for hit in result.hits] == [1, 2, 3]
    assert result.hits[0].url == f"/images/{result.hits[0].id}"
    assert not result.degraded
    assert result.timings_ms.total >= result.timings_ms.encode
    assert result.original_hits is None


async def test_plain_english_is_kept(client: httpx.AsyncClient, rewriter: FakeRewriter) -> None:
    rewriter.calls.clear()
    result = await search(client, query="a red square")
    assert result.rewrite.status == "kept"
    assert result.rewrite.reason.startswith("plain English, and the encoder knows it")
    assert rewriter.calls == []
    always = await search(client, query="a red square", rewrite="always")
    assert always.rewrite.status == "rewritten"
    never = await search(client, query=GERMAN, rewrite="never")
    assert (never.rewrite.status, never.rewrite.texts) == ("kept", [GERMAN])


async def test_a_rewrite_of_what_the_encoder_knows_is_searched_beside_it(
    client: httpx.AsyncClient, rewriter: FakeRewriter, encoder: ClipEncoder
) -> None:
    known = "a red square"
    rewriter.answers[known] = " a green square"
    asked = await search(client, query=known, rewrite="always", k=5)
    assert (asked.rewrite.status, asked.rewrite.fusion) == ("rewritten", "mixture")
    assert asked.rewrite.query_weight == 0.5
    assert asked.rewrite.texts == ["a green square"]
    assert "searched together with the query: plain English, and the encoder knows it" in (
        asked.rewrite.reason
    )
    found = {hit.id: hit.found_by for hit in asked.hits}
    assert (found["red.png"], found["green.png"]) == (["query"], ["rewrite 1"])
    assert {hit.id for hit in asked.hits[:2]} == {"red.png", "green.png"}
    mean = await search(client, query=known, rewrite="always", fusion="mean", k=5)
    assert mean.hits[0].found_by == ["mean"]
    alone = await search(client, query=known, rewrite="always", fusion="rewrite")
    assert (alone.rewrite.fusion, alone.rewrite.reason) == ("rewrite", "requested")
    assert alone.hits[0].id == "green.png"
    # What the encoder does not know has no part in the search.
    other = await search(client, query=GERMAN, rewrite="always")
    assert (other.rewrite.fusion, other.rewrite.reason) == ("mixture", "requested")
    assert other.rewrite.query_weight == 0
    assert other.hits[0].found_by == ["rewrite 1"]
    kept = await search(client, query=known)
    assert kept.rewrite.fusion == "original"


async def test_english_that_the_encoder_does_not_know_is_rewritten(
    client: httpx.AsyncClient,
) -> None:
    unknown = await search(client, query="the thing that people look at when it gets dark")
    assert unknown.rewrite.status == "rewritten"
    assert unknown.rewrite.reason.startswith("plain English, but the encoder does not know it")


async def test_every_hit_says_which_search_found_it(
    client: httpx.AsyncClient, rewriter: FakeRewriter
) -> None:
    rewritten = await search(client, query=GERMAN, k=1)
    assert rewritten.hits[0].found_by == ["rewrite 1"]
    fused = await search(client, query=GERMAN, fusion="rrf", k=5, compare=True)
    assert all(hit.found_by == ["query", "rewrite 1"] for hit in fused.hits)
    assert fused.original_hits
    assert all(hit.found_by == ["query"] for hit in fused.original_hits)
    mean = await search(client, query=GERMAN, fusion="mean")
    assert mean.hits[0].found_by == ["mean"]
    # The lists are fused before they are cut: of few hits the first are those of many.
    rewriter.answers["a black square"] = "a red square"
    asked = {"query": "a black square", "rewrite": "always", "fusion": "rrf", "compare": True}
    long = await search(client, k=5, **asked)
    for k in (1, 2):
        short = await search(client, k=k, **asked)
        assert short.hits == long.hits[:k]
        assert short.original_hits is not None
        assert len(short.original_hits) == k
    rewriter.answers["red"] = "red"
    same = await search(client, query="red", rewrite="always", fusion="rrf")
    assert same.hits[0].found_by == ["query"]


async def test_compare_shows_the_original_beside(client: httpx.AsyncClient) -> None:
    compared = await search(client, query=GERMAN, compare=True)
    plain = await search(client, query=GERMAN, rewrite="never")
    rewritten = await search(client, query="a red square", rewrite="never")
    assert compared.original_hits is not None
    for shown, expected in ((compared.original_hits, plain.hits), (compared.hits, rewritten.hits)):
        assert [hit.id for hit in shown] == [hit.id for hit in expected]
        # Another batch is summed in another order.
        assert [h.score for h in shown] == pytest.approx([h.score for h in expected], abs=1e-5)


async def test_every_fusion(client: httpx.AsyncClient) -> None:
    original = await search(client, query=GERMAN, fusion="original")
    assert original.hits == (await search(client, query=GERMAN, rewrite="never")).hits
    fused = await search(client, query=GERMAN, fusion="rrf")
    assert fused.hits[0].score <= 2 / 61 + 1e-6
    assert {hit.id for hit in fused.hits} == {f"{name}.png" for name in COLOURS}
    mean = await search(client, query=GERMAN, fusion="mean")
    assert mean.hits[0].score <= 1.0001
    assert {hit.id for hit in mean.hits} == {hit.id for hit in fused.hits}


async def test_lists_keep_their_order(client: httpx.AsyncClient) -> None:
    queries = [f"frage {number}" for number in range(64)]
    response = await client.post("/search", json={"query": queries, "k": 1})
    results = response.json()["results"]
    assert [result["query"] for result in results] == queries
    assert [result["rewrite"]["texts"] for result in results] == [
        [f"rewritten {q}"] for q in queries
    ]


async def test_more_hits_than_pictures(client: httpx.AsyncClient) -> None:
    assert len((await search(client, query="red", k=1000)).hits) == len(COLOURS)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(RewriteFailed("no luck"), "no luck"), (RewriterDown("gone"), "gone")],
)
async def test_a_failing_rewriter_degrades_the_search(
    client: httpx.AsyncClient, rewriter: FakeRewriter, error: Exception, reason: str
) -> None:
    expected = await search(client, query=GERMAN, rewrite="never")
    rewriter.error = error
    result = await search(client, query=GERMAN)
    assert result.degraded
    assert result.rewrite.status == "fallback"
    assert reason in result.rewrite.reason
    assert result.hits == expected.hits


async def test_a_late_rewriter_degrades_the_search(start, rewriter: FakeRewriter) -> None:  # type: ignore[no-untyped-def]
    client = await start(rewrite_timeout_s=0.1)
    rewriter.delay = 30
    result = await search(client, query=GERMAN)
    assert result.rewrite.reason.endswith(", but no rewrite within 0.1 s")
    assert result.degraded
    assert rewriter.cancelled == 1


@pytest.mark.parametrize("answer", ["", " \n", "...", "Word: x"])
async def test_an_unusable_rewrite_degrades_the_search(
    client: httpx.AsyncClient, rewriter: FakeRewriter, answer: str
) -> None:
    rewriter.answers[GERMAN] = answer
    result = await search(client, query=GERMAN)
    assert result.rewrite.reason.endswith(", but the rewriter wrote nothing usable")


async def test_a_dead_rewriter_comes_back(
    client: httpx.AsyncClient, rewriter: FakeRewriter
) -> None:
    rewriter.error = RewriterDown("the engine has died")
    await asyncio.sleep(0.2)
    readiness = (await client.get("/readyz")).json()
    assert readiness["rewriter"] == {"ready": False, "reason": "the engine has died"}
    assert readiness["encoder"]["ready"]
    rewriter.error = None
    for _ in range(100):
        if (await client.get("/readyz")).status_code == 200:
            break
        await asyncio.sleep(0.05)
    assert not (await search(client, query=GERMAN)).degraded


async def test_too_many_queries_are_told_to_come_back(start, rewriter: FakeRewriter) -> None:  # type: ignore[no-untyped-def]
    client = await start(max_in_flight=3)
    rewriter.may_answer.clear()
    asked = [asyncio.create_task(client.post("/search", json={"query": GERMAN})) for _ in range(6)]
    while sum(one.done() for one in asked) < 3:  # the refused
        await asyncio.sleep(0.01)
    rewriter.may_answer.set()
    answers = await asyncio.gather(*asked)
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 3
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error_type"] == "overloaded"
    assert (await client.post("/search", json={"query": GERMAN})).status_code == 200
    full = await client.post("/search", json={"query": ["a"] * 4})
    assert full.status_code == 413  # it will never fit
    assert full.json()["error"] == (
        "query: 4 rewrites in one request are more than 3; send fewer queries or a smaller n."
    )


async def test_without_a_rewriter_searches_are_as_typed(start) -> None:  # type: ignore[no-untyped-def]
    client = await start(llm="none")
    result = await search(client, query=GERMAN)
    assert result.rewrite.status == "kept"
    assert not result.degraded


async def test_a_part_that_is_not_rewritten_is_searched_as_typed(
    client: httpx.AsyncClient, rewriter: FakeRewriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentences = [f"I saw {number} in the old house near the river." for number in range(100)]
    query = " ".join(sentences)  # more than a language model is shown at a time
    asked: list[str] = []

    async def complete(prompt: Prompt, *_: object) -> Completions:
        asked.append(prompt.query)
        return completions("!!" if len(asked) == 2 else " a red square")

    monkeypatch.setattr(rewriter, "complete", complete)
    result = await search(client, query=query, rewrite="always")
    assert len(asked) == result.rewrite.parts > 2
    assert result.rewrite.status == "rewritten"
    failed = f"1 of {len(asked)} parts as typed: the rewriter wrote nothing usable"
    assert result.rewrite.reason == f"requested, but {failed}"
    assert result.rewrite.texts[0] == "a red square"
    assert "in the old house near the river." in result.rewrite.texts[1]
    told = (await client.get("/metrics")).text
    assert 'grape_fallbacks_total{cause="unusable"} 1.0' in told


async def test_accents_typed_in_two_ways_are_one_query(
    client: httpx.AsyncClient, rewriter: FakeRewriter
) -> None:
    for query in ("caf\u00e9 rojo", "cafe\u0301 rojo"):
        assert (await search(client, query=query, rewrite="always")).rewrite.status == "rewritten"
    asked = [query for query, _ in rewriter.calls if "rojo" in query]
    assert asked == ["caf\u00e9 rojo"]  # the second came from the cache


async def test_rewrite_route(client: httpx.AsyncClient) -> None:
    response = await client.post("/rewrite", json={"query": [GERMAN, "red"]})
    body = response.json()
    first, second = body["results"]
    assert first == {
        "query": GERMAN,
        "task": "multilingual",
        "status": "rewritten",
        "reason": "requested",
        "rewrites": [
            {"text": "a red square", "probability": None, "clip_tokens": 5, "truncated": False}
        ],
        "parts": 1,
        "adapter": None,
    }
    assert second["query"] == "red"
    assert body["timings_ms"]["total"] > 0
