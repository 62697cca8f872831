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
