"""What a server at --llm-endpoint may answer that is no completion, and what it may not know."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from models.common.errors import InputError
from models.common.proxies import is_on_this_machine
from models.rewriter.endpoint import EndpointRewriter
from models.rewriter.endpoint_http import MAX_BYTES, quoted
from models.rewriter.protocol import Prompt, RewriteFailed, RewriterDown, Sampling
from models.rewriter.rewrites import usable_rewrites
from models.rewriter.tasks import MULTILINGUAL

URL = "http://127.0.0.1:9/v1"
PROMPT = Prompt(MULTILINGUAL, "ein Hund")
Answer = Callable[[httpx.Request], httpx.Response]


def asking(answer: Answer) -> EndpointRewriter:
    return EndpointRewriter(URL, "x", transport=httpx.MockTransport(answer))


def answering(
    content: bytes, status: int = 200, headers: dict[str, str] | None = None
) -> EndpointRewriter:
    return asking(lambda _: httpx.Response(status, content=content, headers=headers))


NO_COMPLETIONS = [
    (b'{"error": {"message": "rate limited"}}', "did not answer with a completion: rate limited"),
    (b'{"error": "rate limited", "choices": [{"text": "x"}]}', "rate limited"),
    (b'{"object": "error", "message": "rate limited"}', "rate limited"),
    (b'{"detail": [{"loc": ["body"], "msg": "rate limited"}]}', "rate limited"),
    (b'{"choices": [{"text": 7}], "message": "rate limited"}', "rate limited"),
    (b"<html><style>p {}</style><h1>Bad\n gateway</h1>", "a completion: Bad gateway"),
    (b"", "a completion: an empty body"),
    (b'{"choices": [{"te', 'a completion: {"choices"'),
    (b"\xff\xfe\x00{", "a completion"),
    (b"null", "a completion: null"),
    (b"[]", r"a completion: \[\]"),
    (b'"rate limited"', "a completion: rate limited"),
    (b'{"choices": []}', "a completion"),
    (b'{"choices": null}', "a completion"),
    (b'{"choices": "rate limited"}', "rate limited"),
    (b'{"choices": [null]}', "a completion"),
    (b'{"choices": [{"text": ["a"]}]}', "a completion"),
    (b'{"choices": [{"text": "a", "logprobs": {"token_logprobs": [NaN]}}]}', "a completion"),
    (b'{"choices": [{"message": {"content": [{"type": "text"}]}}]}', "a completion"),
    (b"[" * 100_000, "a completion"),
    (b" " * (MAX_BYTES + 1), "answered with more than 4 MiB"),
]


@pytest.mark.parametrize(("content", "reason"), NO_COMPLETIONS)
@pytest.mark.parametrize("n", [1, 4])
async def test_what_is_no_completion_fails_this_query(content: bytes, reason: str, n: int) -> None:
    for sampling in (Sampling(n), Sampling(n, temperature=1.0)):
        with pytest.raises(RewriteFailed, match=reason) as caught:
            await answering(content).complete(PROMPT, sampling, within_s=5)
        assert not isinstance(caught.value, RewriterDown)
        assert len(str(caught.value)) < 300
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(("content", "reason"), NO_COMPLETIONS)
async def test_what_is_no_stream_fails_this_query(content: bytes, reason: str) -> None:
    with pytest.raises(RewriteFailed, match=reason):
        await answering(content).complete(PROMPT, Sampling(), lambda _: None)
    if content and b"\n" not in content:
        event = b"data: " + content + b"\n\n"
        rewriter = answering(event, headers={"content-type": "text/event-stream"})
        if content != b'{"choices": []}':  # a last part with the usage only
            with pytest.raises(RewriteFailed):
                await rewriter.complete(PROMPT, Sampling(), lambda _: None)


@pytest.mark.parametrize("status", [301, 400, 401, 404, 418, 429, 500, 503])
async def test_an_error_status_quotes_the_server(status: int) -> None:
    body = b'{"error": {"message": "rate\\u001b[31m limited"}}'
    rewriter = answering(body, status, {"location": "http://elsewhere/v1/completions"})
    with pytest.raises(RewriteFailed, match=rf"answered {status}: rate \[31m limited"):
        await rewriter.complete(PROMPT, Sampling())


async def test_a_bomb_and_a_connection_that_breaks() -> None:
    bomb = answering(gzip.compress(b" " * 2**26), headers={"content-encoding": "gzip"})
    broken = answering(b"not gzip", headers={"content-encoding": "gzip"})

    def drop(_: httpx.Request) -> httpx.Response:
        raise httpx.RemoteProtocolError("peer closed connection")

    for rewriter, reason in ((bomb, "more than"), (broken, "gzip|header"), (asking(drop), "peer")):
        with pytest.raises(RewriteFailed, match=reason) as caught:
            await rewriter.complete(PROMPT, Sampling())
        assert not isinstance(caught.value, RewriterDown)


async def test_answers_that_are_read_all_the_same() -> None:
    text = b'{"choices": [{"text": " a dog", "logprobs": {"content": []}, "x": 1}], "error": null}'
    for content in (text, b"\xef\xbb\xbf" + text):
        (answer,) = (await answering(content).complete(PROMPT, Sampling())).answers
        assert answer.text == " a dog"
    nothing = await answering(b'{"choices": [{"text": null}]}').complete(PROMPT, Sampling())
    assert usable_rewrites(nothing.answers) == []


@pytest.mark.parametrize(
    ("status", "content", "reason"),
    [
        (404, b"not found", None),
        (405, b"", None),
        (429, b'{"error": "slow down"}', None),  # busy, but up
        (200, b'{"data": [{"id": "x"}]}', None),
        (200, b'{"data": [{"id": "y"}]}', "does not offer 'x' but y"),
        (200, b'{"data": []}', "does not offer 'x' but nothing"),
        (200, b'{"error": {"message": "rate limited"}}', "with a list of models: rate limited"),
        (200, b"<html>Welcome</html>", "with a list of models: Welcome"),
        (401, b'{"detail": "wrong key"}', "answered 401: wrong key"),
        (500, b"", "answered 500"),
    ],
)
async def test_a_check_is_passed_or_a_sentence(
    status: int, content: bytes, reason: str | None
) -> None:
    rewriter = answering(content, status)
    if reason is None:
        await rewriter.check()
    else:
        with pytest.raises(RewriterDown, match=reason):
            await rewriter.check()


def drawing(refused: Callable[[dict[str, Any]], bool], asked: list[dict[str, Any]]) -> Answer:
    """A server that answers 422 to what it does not know, and never tells a probability."""

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        asked.append(body)
        if refused(body):
            return httpx.Response(422, json={"detail": "unknown parameter"})
        prompt = body["prompt"]
        count = 1 if isinstance(prompt, list) else body["n"]  # takes the first prompt alone
        choices = [{"index": n, "text": f" drawn {n}"} for n in range(count)]
        return httpx.Response(200, json={"choices": choices})

    return answer


@pytest.mark.parametrize(
    "refused",
    [
        lambda body: False,
        lambda body: "logprobs" in body,
        lambda body: "top_k" in body,
        lambda body: "stream" in body,
        lambda body: bool({"logprobs", "top_k", "stream"} & body.keys()),
    ],
)
async def test_what_a_server_does_not_know_is_asked_once(
    refused: Callable[[dict[str, Any]], bool],
) -> None:
    asked: list[dict[str, Any]] = []
    rewriter = asking(drawing(refused, asked))
    for _ in range(2):
        found = await rewriter.complete(PROMPT, Sampling(3), within_s=5)
        assert [answer.text for answer in found.answers] == [" drawn 0", " drawn 1", " drawn 2"]
        first = len(asked)
    again = await rewriter.complete(PROMPT, Sampling(3), within_s=5)
    assert len(again.answers) == 3
    assert len(asked) == first + 1


async def test_a_server_that_takes_one_prompt_at_a_time_is_drawn_from() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        told = {"top_logprobs": [{" a": -0.1, " b": -2.0}]} if body.get("logprobs") else None
        count = 1 if isinstance(body["prompt"], list) else body["n"]
        choices = [{"index": n, "text": " a dog", "logprobs": told} for n in range(count)]
        return httpx.Response(200, json={"choices": choices})

    found = await asking(answer).complete(PROMPT, Sampling(2))
    assert [answer.text for answer in found.answers] == [" a dog", " a dog"]


class Slowly(httpx.AsyncByteStream):
    """Streams parts; a number is a pause in seconds, and an exception breaks the stream."""

    def __init__(self, *parts: dict[str, Any] | float | Exception) -> None:
        self._parts = parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            if isinstance(part, dict):
                yield b"data: " + json.dumps({"choices": [part]}).encode() + b"\n\n"
            elif isinstance(part, Exception):
                raise part
            else:
                await asyncio.sleep(part)
        yield b"data: [DONE]\n\n"


@pytest.mark.parametrize(("within_s", "texts"), [(0.05, ["a dog"]), (5.0, ["a dog", "a cat", ""])])
async def test_rewrites_that_are_finished_in_time_are_used(
    within_s: float, texts: list[str]
) -> None:
    stream = Slowly(
        {"index": 1, "text": "a "}, {"index": 0, "text": "a "}, 0.1,
        {"index": 0, "text": "dog", "finish_reason": "stop"}, 0.1,
        {"index": 1, "text": "cat", "finish_reason": "stop"}, {"index": 2, "text": ""},
    )  # fmt: skip
    headers = {"content-type": "text/event-stream; charset=utf-8"}
    rewriter = asking(lambda _: httpx.Response(200, stream=stream, headers=headers))
    found = await rewriter.complete(PROMPT, Sampling(3, temperature=1.0), within_s=within_s)
    assert [answer.text for answer in found.answers] == texts
    assert found.unfinished == 3 - len(texts)


@pytest.mark.parametrize("ended", [True, False])
async def test_a_stream_that_breaks_keeps_what_is_finished(ended: bool) -> None:
    first = {"index": 0, "text": "a dog"} | ({"finish_reason": "stop"} if ended else {})
    stream = Slowly(first, {"index": 1, "text": "a "}, httpx.ReadError("broken"))
    headers = {"content-type": "text/event-stream"}
    rewriter = asking(lambda _: httpx.Response(200, stream=stream, headers=headers))
    asked = rewriter.complete(PROMPT, Sampling(2, temperature=1.0), within_s=5)
    if ended:
        found = await asked
        assert [answer.text for answer in found.answers] == ["a dog"]
        assert found.unfinished == 1
    else:
        with pytest.raises(RewriteFailed):
            await asked


@pytest.mark.parametrize("url", ["", "localhost:8001/v1", "ftp://a/v1", "http://", "http://a:b"])
def test_an_address_or_a_key_that_cannot_be_one(url: str) -> None:
    with pytest.raises(InputError, match="is not an address"):
        EndpointRewriter(url, "x")
    with pytest.raises(InputError, match="no key has"):
        EndpointRewriter(URL, "x", "schlüssel")


def test_a_message_is_one_bounded_line() -> None:
    assert quoted(b'{"error": {"message": "' + b"x" * 10**6 + b'"}}').endswith("…")
    assert len(quoted(b"<" * 10**6)) <= 201
    assert quoted(b"\x1b[2J\n a\tb") == "[2J a b"


def test_loopback_is_known() -> None:
    for host in ("localhost", "LOCALHOST.", "a.localhost", "127.9.9.9", "[::1]", "0.0.0.0",
                 "[::ffff:127.0.0.1]"):  # fmt: skip
        assert is_on_this_machine(f"http://{host}:8000")
    for host in ("example.org", "10.0.0.1", "[2001:db8::1]", "localhost.example.org"):
        assert not is_on_this_machine(f"http://{host}:8000")


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "gopher://x", "http://a:b"])
def test_an_unusable_proxy_is_one_sentence(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    EndpointRewriter(URL, "x")  # loopback is asked directly
    with pytest.raises(InputError, match=r"The proxy in ALL_PROXY cannot be used \(.*\): unset"):
        EndpointRewriter("http://example.org/v1", "x")
