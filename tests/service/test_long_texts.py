"""Fusion and batching."""

import asyncio
from typing import get_args

import numpy as np
import pytest

from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.retriever.types import Hit
from models.search.fusion import Search, fuse, searches
from models.search.options import Fusion
from service.retrieval import Retriever


def test_searches_of_every_fusion() -> None:
    typed, both = Search("query", ("q",)), [("a",), ("b",)]
    rewrites = [Search("rewrite 1", ("a",)), Search("rewrite 2", ("b",))]
    assert searches("original", typed, both) == [typed]
    assert searches("rewrite", typed, both) == rewrites
    assert searches("rrf", typed, both) == [typed, *rewrites]
    assert searches("mean", typed, both) == [Search("mean", ("q", "a", "b"))]
    assert searches("self-consistency", typed, both) == [Search("mean", ("a", "b"))]
    assert searches("self-consistency", typed, [("a",)]) == rewrites[:1]
    assert searches("rewrite", typed, [("q",)]) == [typed]  # the query again
    for fusion in get_args(Fusion):
        assert searches(fusion, typed, []) == [typed]


def test_searches_from_a_picture_keep_it_apart_from_the_words() -> None:
    vector = np.ones(2, np.float32)
    typed = Search("picture + query", (vector, "q"))
    assert searches("rewrite", typed, [("q",)]) == [Search("rewrite 1", ("q",))]
    fused = searches("rrf", typed, [("q",), ("a",)])
    assert [search.name for search in fused] == ["picture + query", "rewrite 1", "rewrite 2"]
    (both,) = searches("rewrite", typed, [("q", "a")])
    assert both == Search("rewrite 1", ("q", "a"))
    (mean,) = searches("mean", typed, [("q",), ("a",)])
    assert mean.texts == ("q", "a")
    assert mean.parts[0] is vector


def test_reciprocal_rank_fusion() -> None:
    first = [Hit(7, 0.9), Hit(3, 0.8)]
    second = [Hit(3, 0.5), Hit(5, 0.4)]
    assert fuse([first], 1) == [Hit(7, 0.9)]
    fused = fuse([first, second], 10)
    assert [hit.position for hit in fused] == [3, 7, 5]
    assert fused[0].score == pytest.approx(1 / 61 + 1 / 62)
    assert fuse([[], []], 5) == []


@pytest.fixture
def retriever(encoder: ClipEncoder) -> Retriever:
    vectors = encoder.encode_texts([f"thing number {n}" for n in range(50)])
    ids = [str(n) for n in range(50)]
    index = ImageIndex.build(vectors, ids, [{} for _ in ids], encoder.fingerprint)
    return Retriever(encoder, index)


async def test_batches_do_not_mix_requests_up(retriever: Retriever) -> None:
    async def ask(number: int) -> None:
        found = await retriever.retrieve([[f"thing number {number}"]], k=1 + number % 5)
        assert len(found.lists) == 1
        assert len(found.lists[0]) == 1 + number % 5
        assert found.lists[0][0].position == number

    await asyncio.gather(*(ask(number) for number in range(50)))


async def test_more_texts_than_a_batch_holds(retriever: Retriever) -> None:
    groups = [[f"thing number {n % 50}"] for n in range(200)]
    answers = await asyncio.gather(*(retriever.retrieve(groups, 1) for _ in range(3)))
    for found in answers:
        assert [hits[0].position for hits in found.lists] == [n % 50 for n in range(200)]


async def test_a_group_is_searched_with_its_mean(
    retriever: Retriever, encoder: ClipEncoder
) -> None:
    texts = ["thing number 3", "thing number 4"]
    found = await retriever.retrieve([texts, ["thing number 9"]], k=50)
    mean = encoder.encode_texts(texts).mean(axis=0)
    mean /= np.linalg.norm(mean)
    (expected,) = retriever.index.search(mean[None], 50)
    assert [h.score for h in found.lists[0]] == pytest.approx([h.score for h in expected], abs=1e-5)
    assert found.lists[1][0].position == 9


async def test_a_cancelled_request_harms_no_other(retriever: Retriever) -> None:
    gone = asyncio.create_task(retriever.retrieve([["a"]], 1))
    await asyncio.sleep(0)
    stays = asyncio.create_task(retriever.retrieve([["thing number 8"]], 1))
    gone.cancel()
    assert (await stays).lists[0][0].position == 8


async def test_an_error_reaches_those_it_concerns_and_the_next_batch_works(
    retriever: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(retriever.index, "search", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await retriever.retrieve([["a"]], 1)
    assert (await retriever.retrieve([["thing number 8"]], 1)).lists[0][0].position == 8
