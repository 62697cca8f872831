"""Reranking over HTTP, with a language model whose scores the tests decide."""

import json
from typing import Any

import httpx
import pytest

from models.client.wire import ErrorType, RerankResponse, SearchResult
from models.rewriter.protocol import RewriteFailed, RewriterDown, ScoresHidden, WrittenTokens
from tests.service.api.test_routes import problem
from tests.support.app import COLOURS, FakeRewriter, Start


async def found(client: httpx.AsyncClient, **body: object) -> SearchResult:
    response = await client.post("/search", json={"query": "ein rotes Bild", "k": 5, **body})
    assert response.status_code == 200, response.text
    return SearchResult.model_validate(response.json())


def names(result: SearchResult) -> list[str]:
    return [hit.id.removesuffix(".png") for hit in result.hits]


async def test_the_first_hits_are_reordered(
    client: httpx.AsyncClient, rewriter: FakeRewriter
) -> None:
    before = await found(client)
    assert before.rerank is None
    last = names(before)[2]
    rewriter.likelihoods = {last: 90.0}
    after = await found(client, rerank=3)
    assert names(after) == [last, *names(before)[:2], *names(before)[3:]]
    assert [hit.rank for hit in after.hits] == [1, 2, 3, 4, 5]
    scored = [hit.rerank_score is not None for hit in after.hits]
    assert scored == [True, True, True, False, False]
    assert [hit.rank_before for hit in before.hits] == [None] * 5
    assert [hit.rank_before for hit in after.hits] == [3, 1, 2, None, None]
    assert after.rerank
    assert (after.rerank.status, after.rerank.by) == ("reranked", "likelihood")
    assert after.rerank.candidates == 3
    assert after.timings_ms.rerank is not None
    assert not after.degraded
    # p stays what the search says.
    by_id = {hit.id: hit.score for hit in before.hits}
    assert {hit.id: hit.score for hit in after.hits} == by_id


async def test_a_hit_beyond_k_can_come_first(
    client: httpx.AsyncClient, rewriter: FakeRewriter
) -> None:
    last = names(await found(client))[-1]
    rewriter.likelihoods = {last: 90.0}
    assert names(await found(client, k=1, rerank=True)) == [last]


async def test_the_prompt_turns_the_dictionary_round(
    client: httpx.AsyncClient, rewriter: FakeRewriter
) -> None:
    await found(client, rerank=2)
    (asked,) = rewriter.compared
    assert asked.text == " ein rotes Bild"
    assert all(prompt.endswith("\nWord:") for prompt in asked.prompts)
    assert "English: red apples\nWord: красные яблоки\n" in asked.prompts[0]


async def test_the_same_comparison_is_made_once(
    client: httpx.AsyncClient, rewriter: FakeRewriter
) -> None:
    first = await found(client, rerank=True)
    rewriter.likelihoods = dict.fromkeys(COLOURS, 5.0) | {COLOURS[-1]: 90.0}
    assert names(await found(client, rerank=True)) == names(first)
    assert len(rewriter.compared) == 1


async def test_only_new_candidates_are_asked_for(
    client: httpx.AsyncClient, rewriter: FakeRewriter
) -> None:
    await found(client, rerank=3)
    await found(client, rerank=5)
    assert [len(asked.prompts) for asked in rewriter.compared] == [3, 2]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RewriteFailed("too long"), "the language model failed: too long"),
        (ScoresHidden("it hides them"), "it hides them"),
        (RewriterDown("no engine"), "the language model is down: no engine"),
    ],
)
async def test_a_failing_language_model_keeps_the_order(
    client: httpx.AsyncClient, rewriter: FakeRewriter, error: Exception, reason: str
) -> None:
    before = await found(client, rewrite="never")
    rewriter.error = error
    after = await found(client, rewrite="never", rerank=True)
    assert names(after) == names(before)
    assert after.rerank
    assert after.rerank.status == "fallback"
    # The server may have looked after its model before the search did.
    assert after.rerank.reason in (reason, reason.replace("is down", "is not ready"))
    assert after.degraded
    metrics = (await client.get("/metrics")).text
    assert 'grape_reranks_total{status="fallback"} 1.0' in metrics


async def test_a_late_language_model_keeps_the_order(start: Start, rewriter: FakeRewriter) -> None:
    client = await start(rewrite_timeout_s=0.2)
    before = await found(client, rewrite="never")
    rewriter.delay = 30
    after = await found(client, rewrite="never", rerank=True)
    assert names(after) == names(before)
    assert after.rerank
    assert after.rerank.reason == "no scores within 0.2 s"


@pytest.mark.parametrize("answer", [[], [1.0], [float("nan")] * 5, [float("-inf")] * 5])
async def test_malformed_scores_keep_the_order(
    client: httpx.AsyncClient,
    rewriter: FakeRewriter,
    monkeypatch: pytest.MonkeyPatch,
    answer: list[float],
) -> None:
    async def log_likelihoods(_: object) -> list[float]:
        return answer

    monkeypatch.setattr(rewriter, "log_likelihoods", log_likelihoods)
    before = await found(client)
    after = await found(client, rerank=True)
    assert names(after) == names(before)
    assert after.rerank
    assert after.rerank.status == "fallback"


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"query": None, "image_id": "red.png"}, "a picture without words"),
        ({"query": "but blue", "image_id": "red.png"}, "a picture to be changed"),
        ({"query": "???"}, "the query has no letters or digits"),
    ],
)
async def test_what_has_nothing_to_compare_keeps_the_order(
    client: httpx.AsyncClient, rewriter: FakeRewriter, query: dict[str, Any], reason: str
) -> None:
    result = await found(client, **query, rerank=True)
    assert result.rerank
    assert result.rerank.status == "kept"
    assert result.rerank.reason.startswith(reason)
    assert not rewriter.compared


def one_digit(rating: dict[int, float]) -> tuple[str, dict[str, float]]:
    """The digit that is written, and how probable each one is."""
    written = max(rating, key=lambda digit: rating[digit])
    return f" {written}", {f" {digit}": p for digit, p in rating.items()} | {" x": 0.1}


async def test_groups_are_asked_at_once_and_rated_by_the_mean(
    client: httpx.AsyncClient, rewriter: FakeRewriter
) -> None:
    """The words 'dog' and 'cat' get the digit 7 both, and are told apart by what else is likely."""
    means = {"dog": {7: 0.5, 9: 0.4}, "cat": {7: 0.5, 2: 0.4}}

    def ratings(asked: str) -> WrittenTokens:
        texts = [part.split(" ", 1)[1] for part in asked.split(" / ")[1:]]
        pairs = [one_digit(means.get(text, {1: 0.9})) for text in texts]
        return WrittenTokens([token for token, _ in pairs], [options for _, options in pairs])

    rewriter.ratings = ratings
    documents = ["bird", "cat", *(f"fish {n}" for n in range(8)), "dog"]
    answer = await ranked(client, query="Hund", documents=documents, rerank_by="group")
    assert [documents[one.index] for one in answer.results][:3] == ["dog", "cat", "bird"]
    assert answer.results[0].relevance_score == pytest.approx((7 * 0.5 + 9 * 0.4) / 0.9 / 9)
    assert answer.rerank.groups == len(rewriter.rated) == 3
    assert rewriter.rated[0] == "Hund / 1 bird / 2 fish 1 / 3 fish 4 / 4 fish 7"


@pytest.mark.parametrize("passes", [1, 2])
async def test_a_group_without_ratings_keeps_its_places(
    start: Start, rewriter: FakeRewriter, passes: int
) -> None:
    client = await start(rerank_passes=passes)
    rewriter.ratings = lambda _: WrittenTokens([" well"], [{" well": 1.0}])
    answer = await ranked(client, query="Hund", documents=["a", "b", "c"], rerank_by="group")
    assert [one.index for one in answer.results] == [0, 1, 2]
    assert answer.rerank.status == "fallback"
    assert len(rewriter.rated) == passes


async def test_another_field_of_the_metadata(start: Start, rewriter: FakeRewriter) -> None:
    client = await start(rerank_field="file")
    await found(client, rerank=2)
    assert all(prompt.endswith(".png\nWord:") for prompt in rewriter.compared[0].prompts)
    result = await found(await start(rerank_field="nothing"), rerank=True)
    assert result.rerank
    assert result.rerank.reason == "fewer than two candidates have a text to compare"


async def test_no_language_model(start: Start) -> None:
    result = await found(await start(llm="none"), rerank=True)
    assert result.rerank
    assert result.rerank.status == "kept"
    assert "switched off" in result.rerank.reason
    assert not result.degraded


@pytest.mark.parametrize("rerank", [0, -1, 101, 1.5, "yes", [], {}])
async def test_the_number_of_candidates_is_bounded(
    client: httpx.AsyncClient, rerank: object
) -> None:
    response = await client.post("/search", json={"query": "a", "rerank": rerank})
    assert problem(response, 422, ErrorType.VALIDATION) == (
        "rerank: Input should be true, false or a whole number from 1 to 100"
    )


async def ranked(client: httpx.AsyncClient, **body: object) -> RerankResponse:
    response = await client.post("/rerank", json=body)
    assert response.status_code == 200, response.text
    return RerankResponse.model_validate(response.json())


async def test_documents_of_ones_own(client: httpx.AsyncClient, rewriter: FakeRewriter) -> None:
    rewriter.likelihoods = {"dog": -1.0, "cat": -3.0, "cow": -2.0}
    documents = ["cat", {"id": "b", "text": "dog"}, {"text": "cow"}, "dog"]
    answer = await ranked(client, query="Hund", documents=documents)
    assert [(one.index, one.id) for one in answer.results] == [
        (1, "b"), (3, None), (2, None), (0, None),
    ]  # fmt: skip
    scores = [one.relevance_score for one in answer.results]
    assert all(scores)
    assert sum(score or 0 for score in scores) == pytest.approx(1)
    assert len((await ranked(client, query="Hund", documents=documents, k=2)).results) == 2


async def test_documents_keep_their_order_without_scores(
    client: httpx.AsyncClient, rewriter: FakeRewriter
) -> None:
    rewriter.error = RewriteFailed("no")
    answer = await ranked(client, query="Hund", documents=["a", "b", "c"])
    assert [one.index for one in answer.results] == [0, 1, 2]
    assert [one.relevance_score for one in answer.results] == [None] * 3
    assert answer.rerank.status == "fallback"


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"query": "a"}, 422, ErrorType.VALIDATION),
        ({"query": "a", "documents": []}, 422, ErrorType.VALIDATION),
        ({"query": "a", "documents": ["x"] * 101}, 422, ErrorType.VALIDATION),
        ({"query": "a", "documents": ["x", " "]}, 422, ErrorType.VALIDATION),
        ({"query": "a", "documents": [{"id": "x"}]}, 422, ErrorType.VALIDATION),
        ({"query": "a", "documents": [{"id": "\ud800", "text": "b"}]}, 422, ErrorType.VALIDATION),
        ({"query": "a", "documents": ["x", 1]}, 422, ErrorType.VALIDATION),
        ({"query": "", "documents": ["x"]}, 422, ErrorType.VALIDATION),
        ({"query": "a", "documents": ["x"], "k": 0}, 422, ErrorType.VALIDATION),
        ({"query": "a", "documents": ["x" * 99]}, 413, ErrorType.TOO_LARGE),
    ],
)
async def test_bad_documents_are_4xx(
    start: Start, body: dict[str, Any], status: int, kind: ErrorType
) -> None:
    client = await start(max_query_chars=50)
    json_type = {"content-type": "application/json"}
    answer = await client.post("/rerank", content=json.dumps(body), headers=json_type)
    problem(answer, status, kind)


async def test_rerank_needs_a_key_and_no_scope(start: Start) -> None:
    key = "a-key-of-these-tests-0123456789"
    client = await start(api_keys=key)
    body = {"query": "a", "documents": ["x", "y"]}
    problem(await client.post("/rerank", json=body), 401, ErrorType.UNAUTHORIZED)
    answer = await client.post("/rerank", json=body, headers={"x-api-key": key})
    assert answer.status_code == 200
