"""POST /search with several rewrites: how many, and what becomes of them."""

import asyncio
from pathlib import Path

import httpx
import numpy as np
import pytest

from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.rewriter.protocol import (
    AUTO,
    Completion,
    Completions,
    Sampling,
)
from tests.service.test_search import GERMAN, search
from tests.support.app import FakeRewriter, Start


async def test_how_many_rewrites_are_asked_for(
    client: httpx.AsyncClient, rewriter: FakeRewriter
) -> None:
    await search(client, query=GERMAN)
    assert rewriter.calls[-1][1] == AUTO
    await search(client, query=GERMAN, n=4)
    assert rewriter.calls[-1][1] == Sampling(4)
    await search(client, query=GERMAN, n=1, fusion="rewrite")
    assert rewriter.calls[-1][1] == Sampling()
    await search(client, query="ein blaues Bild", fusion="rrf")  # more are worth it in a mixture
    assert rewriter.calls[-1][1] == Sampling()


async def test_several_rewrites_are_searched_as_a_mixture(
    client: httpx.AsyncClient,
    rewriter: FakeRewriter,
    encoder: ClipEncoder,
    small_index: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def complete(*_: object) -> Completions:
        written = {"a red square": 0.3, "a blue square": 0.15, "!!": 0.3, " a red square.": 0.15}
        return Completions([Completion(text, p) for text, p in written.items()])

    monkeypatch.setattr(rewriter, "complete", complete)
    result = await search(client, query=GERMAN, n=4, k=5)
    assert result.rewrite.texts == ["a red square", "a blue square"]
    assert result.rewrite.probabilities == pytest.approx([0.45, 0.15])
    tau = 2 * encoder.temperature
    assert result.rewrite.tau == pytest.approx(tau)
    index = ImageIndex.open(small_index, encoder.fingerprint)
    cosines = encoder.encode_texts(result.rewrite.texts) @ index.vectors().T
    softmax = np.exp(cosines / tau)
    expected = np.array([0.75, 0.25]) @ (softmax / softmax.sum(axis=1, keepdims=True))
    for hit in result.hits:
        position = index.position(hit.id)
        assert hit.score == pytest.approx(expected[position], abs=1e-4)
        assert hit.cosine == pytest.approx(
            cosines[int(hit.found_by == ["rewrite 2"]), position], abs=1e-4
        )
    best = [index.ids[position] for position in np.argsort(-expected)]
    assert [hit.id for hit in result.hits] == best
    assert result.confident is (result.hits[0].score >= 0.5)
    told = (await client.get("/metrics")).text
    assert "grape_rewrites_searched_sum 2.0" in told
    assert "grape_rewrite_coverage_sum 0.6" in told


async def test_under_load_fewer_rewrites_are_asked_for(
    start: Start, rewriter: FakeRewriter
) -> None:
    client = await start(llm_max_seqs=8)
    rewriter.calls.clear()  # its canary
    rewriter.may_answer.clear()
    waiting = [
        asyncio.create_task(search(client, query=f"ein Bild Nummer {number}"))
        for number in range(4)
    ]
    while len(rewriter.calls) < 4:
        await asyncio.sleep(0.01)
    fixed = asyncio.create_task(search(client, query="noch ein Bild", n=8))
    while len(rewriter.calls) < 5:
        await asyncio.sleep(0.01)
    rewriter.may_answer.set()
    await asyncio.gather(*waiting, fixed)
    assert [sampling.n for _, sampling in rewriter.calls] == [8, 4, 2, 2, 8]


async def test_rewrites_that_are_cached_are_searched_under_load_too(
    start: Start, rewriter: FakeRewriter
) -> None:
    client = await start(llm_max_seqs=16)
    await search(client, query=GERMAN)
    rewriter.calls.clear()
    rewriter.may_answer.clear()
    waiting = [
        asyncio.create_task(search(client, query=f"ein Bild Nummer {number}"))
        for number in range(4)
    ]
    while len(rewriter.calls) < 4:
        await asyncio.sleep(0.01)
    assert (await search(client, query=GERMAN)).rewrite.status == "rewritten"
    assert len(rewriter.calls) == 4
    rewriter.may_answer.set()
    await asyncio.gather(*waiting)


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ({"query": GERMAN}, 1),  # auto goes down to one
        ({"query": [GERMAN, "noch ein Bild"]}, 2),
        ({"query": GERMAN, "n": 3}, 3),
        ({"query": GERMAN, "n": 3, "fusion": "rewrite"}, 3),
        ({"query": GERMAN, "n": 3, "rewrite": "never"}, 1),
        ({"query": GERMAN, "n": 3, "fusion": "original"}, 1),
    ],
)
async def test_admission_counts_rewrites(
    start: Start, rewriter: FakeRewriter, body: dict[str, object], count: int
) -> None:
    client = await start(max_in_flight=6)
    rewriter.calls.clear()
    rewriter.may_answer.clear()
    first = asyncio.create_task(client.post("/rewrite", json={"query": "ein Bild", "n": 6 - count}))
    while not rewriter.calls:
        await asyncio.sleep(0.01)
    second = asyncio.create_task(client.post("/search", json=body))
    if body.get("rewrite") != "never":
        while len(rewriter.calls) == 1:
            await asyncio.sleep(0.01)
        assert (await client.post("/search", json={"query": "x"})).status_code == 429
        assert "grape_in_flight_queries 6.0" in (await client.get("/metrics")).text
    rewriter.may_answer.set()
    assert [(await answer).status_code for answer in (first, second)] == [200, 200]
    for route in ("/search", "/rewrite"):  # more than ever fit
        refused = await client.post(route, json={"query": [GERMAN] * 2, "n": 4})
        assert (refused.status_code, refused.json()["error_type"]) == (413, "too_large")


@pytest.mark.parametrize(("n", "told"), [(17, "from 1 to 16"), ("some", "from 1 to 16")])
async def test_a_wrong_number_is_one_sentence(
    client: httpx.AsyncClient, n: object, told: str
) -> None:
    for route in ("/search", "/rewrite"):
        answer = await client.post(route, json={"query": GERMAN, "n": n})
        assert answer.status_code == 422
        assert answer.json()["error"].startswith("n: Input should be 'auto' or a whole number")
        assert told in answer.json()["error"]
    drawn = await client.post("/rewrite", json={"query": GERMAN, "n": "auto", "temperature": 1})
    assert "leave out the temperature" in drawn.json()["error"]


async def test_what_is_finished_at_the_deadline_is_searched(
    client: httpx.AsyncClient, rewriter: FakeRewriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def complete(*given: object) -> Completions:
        assert given[-1] == pytest.approx(9)
        return Completions([Completion("a red square", 0.3)], unfinished=7)

    monkeypatch.setattr(rewriter, "complete", complete)
    result = await search(client, query=GERMAN, n=8)
    assert result.rewrite.texts == ["a red square"]
    assert result.rewrite.reason.endswith("; 7 rewrites took longer than 9 s")
    assert not result.degraded

    async def one_late(*_: object) -> Completions:
        return Completions([Completion("a blue square", 0.3)], unfinished=1)

    monkeypatch.setattr(rewriter, "complete", one_late)
    again = await search(client, query=GERMAN, n=8)  # what was incomplete is not kept
    assert again.rewrite.texts == ["a blue square"]
    assert again.rewrite.reason.endswith("; 1 rewrite took longer than 9 s")
