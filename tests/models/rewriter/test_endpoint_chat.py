"""An endpoint that is asked by chat: because it was chosen, or because there is nothing else."""

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from models.rewriter.chat import SERVERS_TEMPLATE
from models.rewriter.endpoint import EndpointRewriter
from models.rewriter.protocol import Prompt, RewriteFailed, Sampling
from models.rewriter.rewrites import usable_rewrites
from models.rewriter.tasks import MULTILINGUAL

PLAIN = Prompt(MULTILINGUAL, "ein Hund")
CHAT = Prompt(replace(MULTILINGUAL, chat=SERVERS_TEMPLATE), "ein Hund")


class FakeChat:
    """A chat API, without plain completions.

    Args:
        answers: in turn.
        refuses: parameters that it answers 400 to.
    """

    def __init__(self, *answers: str, refuses: tuple[str, ...] = ()) -> None:
        self._answers = answers or ("a dog",)
        self._refuses = refuses
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        route = request.url.path.removeprefix("/v1")
        self.asked.append((route, body))
        if route != "/chat/completions":
            return httpx.Response(404, json={"error": {"message": "no such route"}})
        if set(self._refuses) & body.keys():
            return httpx.Response(400, json={"error": {"message": "unknown parameter"}})
        said = [self._answers[n % len(self._answers)] for n in range(body["n"])]
        if body.get("stream"):
            parts = [{"index": 0, "delta": {"content": word}} for word in said[0].split(" ")]
            events = "".join(f"data: {json.dumps({'choices': [part]})}\n\n" for part in parts)
            return httpx.Response(
                200, text=f"{events}data: [DONE]\n\n", headers={"content-type": "text/event-stream"}
            )
        choices = [
            {"index": n, "message": {"content": text}, "finish_reason": "stop"}
            for n, text in enumerate(said)
        ]
        return httpx.Response(200, json={"choices": choices})

    def rewriter(self, may_chat: bool = False) -> EndpointRewriter:
        transport = httpx.MockTransport(self)
        url = "http://127.0.0.1:9/v1"
        return EndpointRewriter(url, "x", may_chat=may_chat, transport=transport)


async def test_the_conversation_is_sent_and_the_server_applies_its_own_template() -> None:
    server = FakeChat()
    found = await server.rewriter().complete(CHAT, Sampling())
    assert [answer.text for answer in found.answers] == ["a dog"]
    ((route, body),) = server.asked
    assert route == "/chat/completions"
    assert body["messages"] == MULTILINGUAL.messages("ein Hund")
    assert [message["role"] for message in body["messages"][:3]] == ["system", "user", "assistant"]
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert body["max_tokens"] > MULTILINGUAL.max_tokens
    assert "stop" not in body
    assert "prompt" not in body


@pytest.mark.parametrize(
    "answer",
    [
        "<think>\nHund is German.\n</think>\n\n**a dog**",
        'Sure! Here is the translation:\n\n- "a dog"',
        '\n\n"a dog".',
        "```\na dog\n```",
    ],
)
async def test_thoughts_markdown_quotes_and_greetings_are_taken_off(answer: str) -> None:
    found = await FakeChat(answer).rewriter().complete(CHAT, Sampling())
    assert [rewrite.text for rewrite in usable_rewrites(found.answers)] == ["a dog"]


async def test_several_are_drawn() -> None:
    server = FakeChat("a dog", "a hound")
    found = await server.rewriter().complete(CHAT, Sampling(4))
    assert {answer.text for answer in found.answers} == {"a dog", "a hound"}
    ((_, body),) = server.asked
    assert (body["n"], body["temperature"], body["top_k"]) == (4, 1.0, 64)


async def test_a_server_that_knows_fewer_parameters_is_asked_with_fewer_from_then_on() -> None:
    server = FakeChat(refuses=("chat_template_kwargs", "top_k"))
    rewriter = server.rewriter()
    for _ in range(2):
        assert (await rewriter.complete(CHAT, Sampling())).answers[0].text == "a dog"
    assert ["chat_template_kwargs" in body for _, body in server.asked] == [True, False, False]


async def test_an_answer_is_streamed() -> None:
    seen: list[str] = []
    found = await FakeChat("a dog").rewriter().complete(CHAT, Sampling(), seen.append)
    assert seen == ["a", "adog"] or seen[-1] == found.answers[0].text
    assert len(seen) == 2


async def test_a_server_without_completions_is_asked_by_chat_if_the_style_is_auto() -> None:
    server = FakeChat()
    rewriter = server.rewriter(may_chat=True)
    for query in ("ein Hund", "eine Katze"):
        found = await rewriter.complete(PLAIN._replace(query=query), Sampling())
        assert found.answers[0].text == "a dog"
    routes = [route for route, _ in server.asked]
    assert routes == ["/completions", "/chat/completions", "/chat/completions"]
    with pytest.raises(RewriteFailed, match="answered 404: no such route"):
        await FakeChat().rewriter().complete(PLAIN, Sampling())


async def test_a_server_without_either_says_what_it_said() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(404, json={"error": "no model x"}))
    rewriter = EndpointRewriter("http://127.0.0.1:9/v1", "x", may_chat=True, transport=transport)
    for _ in range(2):
        with pytest.raises(RewriteFailed, match="answered 404: no model x"):
            await rewriter.complete(PLAIN, Sampling())
