"""What a server with OpenAI's API says of given texts, and of its own answer."""

import json
import math
import re
from typing import Any

import httpx
import pytest

from models.rewriter.endpoint import EndpointRewriter
from models.rewriter.likelihood import Continuation
from models.rewriter.protocol import Prompt, RewriteFailed, RewriterDown, ScoresHidden
from models.rewriter.tasks import RERANK

ASKED = Continuation([f"dog {n}:" for n in range(30)], " Hund")


class Echoes:
    """A completions API. A token is a character, and its log-probability depends on its prompt."""

    def __init__(
        self, echoes: bool = True, tells: bool = True, status: int = 200, begin: str = ""
    ) -> None:
        self._echoes, self._tells, self._status = echoes, tells, status
        self._begin = begin  # a token in front of every prompt
        self.most = math.inf  # characters of a prompt
        self.asked: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.asked.append(body)
        if self._status != 200 or len(body["prompt"][0]) > self.most:
            return httpx.Response(max(self._status, 400), json={"error": {"message": "no"}})
        choices = [
            {"index": index, "text": prompt, "logprobs": self._logprobs(prompt)}
            for index, prompt in enumerate(body["prompt"])
        ]
        return httpx.Response(200, json={"choices": choices[::-1]})

    def _logprobs(self, prompt: str) -> dict[str, Any] | None:
        if not self._tells:
            return None
        begin = [self._begin] if self._begin else []
        tokens = [*begin, *prompt, "!"] if self._echoes else ["!"]
        (number,) = re.findall(r"\d+", prompt) or [0]
        values = [None, *(-float(number) for _ in tokens[1:])]
        return {"tokens": tokens, "token_logprobs": values, "top_logprobs": None}

    @property
    def rewriter(self) -> EndpointRewriter:
        return EndpointRewriter("http://127.0.0.1:9/v1", "x", transport=httpx.MockTransport(self))


@pytest.mark.parametrize("begin", ["", "<bos>"])
async def test_only_the_text_counts_and_the_end_of_its_line(begin: str) -> None:
    server = Echoes(begin=begin)
    found = await server.rewriter.log_likelihoods(ASKED)
    assert found == [-float(n) * len(" Hund\n") for n in range(30)]
    assert [len(body["prompt"]) for body in server.asked] == [25, 5]
    assert all(body["echo"] for body in server.asked)


@pytest.mark.parametrize(
    "server", [Echoes(echoes=False), Echoes(tells=False), Echoes(status=400), Echoes(status=422)]
)
async def test_a_server_that_does_not_tell_is_asked_once(server: Echoes) -> None:
    rewriter = server.rewriter
    for _ in range(2):
        with pytest.raises(ScoresHidden, match="it would have to take `echo`"):
            await rewriter.log_likelihoods(ASKED._replace(prompts=["dog 1:"]))
    assert len(server.asked) == 2  # the second was a short one, to be sure


async def test_a_prompt_that_is_refused_says_nothing_of_the_next_one() -> None:
    server = Echoes()
    server.most = 30
    rewriter = server.rewriter
    with pytest.raises(RewriteFailed) as raised:
        await rewriter.log_likelihoods(ASKED._replace(prompts=["a long dog 1:" * 9]))
    assert not isinstance(raised.value, ScoresHidden)
    assert await rewriter.log_likelihoods(ASKED._replace(prompts=["dog 1:"])) == [-6.0]


async def test_tokens_that_do_not_add_up_cost_one_text_its_score() -> None:
    class Bytes(Echoes):
        def _logprobs(self, prompt: str) -> dict[str, Any] | None:
            told = super()._logprobs(prompt)
            if told and "7" in prompt:
                told["tokens"] = ["\ufffd" for _ in told["tokens"]]
            return told

    found = await Bytes().rewriter.log_likelihoods(ASKED._replace(prompts=["dog 1:", "dog 7:"]))
    assert found[0] == -6.0
    assert math.isnan(found[1])


async def test_a_failure_is_not_taken_for_a_refusal() -> None:
    server = Echoes(status=503)
    for _ in range(2):
        with pytest.raises(Exception, match="answered 503") as raised:
            await server.rewriter.log_likelihoods(ASKED)
        assert not isinstance(raised.value, ScoresHidden | RewriterDown)


async def test_the_tokens_of_an_answer() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        told = {"tokens": [" 7"], "token_logprobs": [-0.1], "top_logprobs": [{" 7": 0, " 2": -9}]}
        choices = [{"index": n, "text": " 7", "logprobs": told} for n in range(len(body["prompt"]))]
        return httpx.Response(200, json={"choices": choices})

    rewriter = EndpointRewriter("http://127.0.0.1:9/v1", "x", transport=httpx.MockTransport(answer))
    found = await rewriter.written_tokens([Prompt(RERANK, "a / 1 b"), Prompt(RERANK, "a / 1 c")])
    assert [written.tokens for written in found] == [[" 7"], [" 7"]]
    assert found[0].likely[0][" 7"] == 1
