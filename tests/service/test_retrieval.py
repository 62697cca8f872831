"""Encoding and searching, batched over requests."""

import asyncio

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from service.retrieval import BatchedRetriever


@pytest.fixture
def retriever(encoder: ClipEncoder) -> BatchedRetriever:
    vectors = encoder.encode_texts([f"thing number {n}" for n in range(50)])
    ids = [str(n) for n in range(50)]
    index = ImageIndex.build(vectors, ids, [{} for _ in ids], encoder.fingerprint)
    return BatchedRetriever(encoder, index)


async def test_batches_do_not_mix_requests_up(retriever: BatchedRetriever) -> None:
    async def ask(number: int) -> None:
        found = await retriever.retrieve([[f"thing number {number}"]])
        (scored,) = found.found
        assert scored.best(1)[0].position == number

    await asyncio.gather(*(ask(number) for number in range(50)))


async def test_more_texts_than_a_batch_holds(retriever: BatchedRetriever) -> None:
    groups = [[f"thing number {n % 50}"] for n in range(200)]
    answers = await asyncio.gather(*(retriever.retrieve(groups) for _ in range(3)))
    for found in answers:
        assert [scored.best(1)[0].position for scored in found.found] == [
            n % 50 for n in range(200)
        ]


async def test_a_group_is_searched_with_its_mean(
    retriever: BatchedRetriever, encoder: ClipEncoder
) -> None:
    texts = ["thing number 3", "thing number 4"]
    found = await retriever.retrieve([texts, ["thing number 9"]])
    mean = encoder.encode_texts(texts).mean(axis=0)
    mean /= np.linalg.norm(mean)
    (expected,) = retriever.index.score(mean[None])
    best = found.found[0].best(50)
    assert [h.score for h in best] == pytest.approx([h.score for h in expected.best(50)], abs=1e-5)
    assert found.found[1].best(1)[0].position == 9


async def test_a_search_leaves_the_other_cores_alone(retriever: BatchedRetriever) -> None:
    """Threads that wait for work at full speed slow the language model down."""
    await retriever.retrieve([["thing number 3"]])
    threads = [part["num_threads"] for part in threadpool_info() if "numpy" in part["filepath"]]
    assert threads == [1]


async def test_a_cancelled_request_harms_no_other(retriever: BatchedRetriever) -> None:
    gone = asyncio.create_task(retriever.retrieve([["a"]]))
    await asyncio.sleep(0)
    stays = asyncio.create_task(retriever.retrieve([["thing number 8"]]))
    gone.cancel()
    assert (await stays).found[0].best(1)[0].position == 8


async def test_an_error_reaches_those_it_concerns_and_the_next_batch_works(
    retriever: BatchedRetriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(retriever.index, "score", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await retriever.retrieve([["a"]])
    assert (await retriever.retrieve([["thing number 8"]])).found[0].best(1)[0].position == 8
