"""Several rewrites from a server with OpenAI's API, whatever it knows of logprobs and top_k."""

import json
import math
from typing import Any

import httpx
import pytest

from models.rewriter.endpoint import EndpointRewriter
from models.rewriter.protocol import Completion, Completions, Prompt, RewriteFailed, Sampling
from models.rewriter.tasks import MULTILINGUAL

PROMPT = Prompt(MULTILINGUAL, "ein Hund")
FIRST_WORDS = {" a": 0.5, " the": 0.2, "\n": 0.15, " dog": 0.1, " ": 0.05}
REST = {" a": ((" dog", 0.8), ("\n", 0.5)), " the": ((" dog", 1.0),), " dog": ((" sits", 0.3),)}


class FakeOpenAI:
    """A completions API; tests decide what it refuses and what it hides.

    Args:
        most: alternatives of a word that it tells; it answers 400 to more.
    """

    def __init__(self, most: int = 20, top_k: bool = True, hides: bool = False) -> None:
        self._most = most
        self._top_k = top_k
        self._hides = hides
        self.asked: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.asked.append(body)
        if body.get("logprobs", 0) > self._most or ("top_k" in body and not self._top_k):
            return httpx.Response(400, json={"error": {"message": "too many"}})
        if isinstance(body["prompt"], list):
            choices = [self._finished(prompt) for prompt in body["prompt"]]
        elif body.get("logprobs"):
            told = sorted(FIRST_WORDS.items(), key=lambda item: -item[1])[: body["logprobs"]]
            logprobs = {word: math.log(share) for word, share in told}
            shown = None if self._hides else {"top_logprobs": [logprobs]}
            choices = [{"text": " a", "logprobs": shown}]
        else:
            choices = [{"text": f" drawn {n % 2}"} for n in range(body["n"])]
        numbered = [{"index": index, **choice} for index, choice in enumerate(choices)]
        return httpx.Response(200, json={"choices": numbered[::-1]})  # in no order

    def _finished(self, prompt: str) -> dict[str, Any]:
        word = next(word for word in REST if prompt.endswith(word))
        said = [text for text, _ in REST[word] if text != "\n"]
        return {
            "text": "".join(said),
            "logprobs": {"token_logprobs": [math.log(share) for _, share in REST[word]]},
        }

    async def complete(self, sampling: Sampling) -> Completions:
        transport = httpx.MockTransport(self)
        rewriter = EndpointRewriter("http://127.0.0.1:9/v1", "x", transport=transport)
        return await rewriter.complete(PROMPT, sampling)


def by_text(found: Completions) -> dict[str, float | None]:
    return {answer.text: answer.probability for answer in found.answers}


async def test_the_most_probable_first_words_are_finished() -> None:
    server = FakeOpenAI()
    found = by_text(await server.complete(Sampling(8)))
    # A word that ends the answer begins no rewrite.
    assert found == pytest.approx({" a dog": 0.5 * 0.8 * 0.5, " the dog": 0.2, " dog sits": 0.03})
    first, rest = server.asked
    assert (first["max_tokens"], first["logprobs"], first["temperature"]) == (1, 8, 0)
    assert [prompt.removeprefix(first["prompt"]) for prompt in rest["prompt"]] == list(REST)
    assert rest["max_tokens"] == MULTILINGUAL.max_tokens


async def test_no_further_first_words_than_cover_enough() -> None:
    found = await FakeOpenAI().complete(Sampling(8, coverage=0.6))
    assert list(by_text(found)) == [" a dog", " the dog"]
    found = await FakeOpenAI().complete(Sampling(8, coverage=0.5))
    assert list(by_text(found)) == [" a dog"]


async def test_a_server_that_tells_only_a_few_words_is_asked_for_those() -> None:
    server = FakeOpenAI(most=5)
    assert len((await server.complete(Sampling(16))).answers) == 3
    assert [body.get("logprobs") for body in server.asked] == [16, 5, 0]


@pytest.mark.parametrize("top_k", [True, False])
async def test_where_probabilities_are_hidden_rewrites_are_drawn(top_k: bool) -> None:
    server = FakeOpenAI(hides=True, top_k=top_k)
    found = await server.complete(Sampling(4))
    assert sorted(found.answers) == [*[Completion(" drawn 0")] * 2, *[Completion(" drawn 1")] * 2]
    drawn = server.asked[-1]
    assert (drawn["n"], drawn["temperature"]) == (4, 1)
    assert [body.get("top_k") for body in server.asked[1:]] == [64] if top_k else [64, None]
    again = FakeOpenAI(hides=True, top_k=top_k)
    await again.complete(Sampling(4))
    assert again.asked == server.asked  # with the same seed


async def test_a_server_that_refuses_everything_has_failed() -> None:
    server = FakeOpenAI(most=-1)
    for sampling in (Sampling(4), Sampling(4, temperature=1.0)):
        with pytest.raises(RewriteFailed, match="too many"):
            await server.complete(sampling)
