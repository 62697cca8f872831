"""The Python clients: against the application, and against servers that refuse, fail or vanish."""

import asyncio
import io
import json
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import MappingProxyType, SimpleNamespace
from typing import Any

import httpx
import pytest
import tenacity
from PIL import Image

from models.client import AsyncClient, Client, ClientError, retry
from models.client.wire import ErrorType
from tests.support.app import COLOURS, FakeRewriter
from tests.support.loopback import listening

READY = {
    "ready": True,
    **{part: {"ready": True, "reason": ""} for part in ("rewriter", "encoder", "index")},
}
Answer = httpx.Response | Exception


def refusal(status: int, kind: str, retry_after: str | None = None) -> httpx.Response:
    body = {"error": f"a {kind} sentence.", "error_type": kind, "request_id": "r-1"}
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return httpx.Response(status, json=body, headers=headers)


def rewritten(*queries: str) -> httpx.Response:
    results = [
        {"query": query, "task": "multilingual", "status": "rewritten", "reason": "requested",
         "rewrites": [{"text": "a", "clip_tokens": 3, "truncated": False}], "adapter": None}
        for query in queries
    ]  # fmt: skip
    return httpx.Response(200, json={"results": results, "timings_ms": {}, "request_id": "r"})


class Scripted:
    """A server that gives these answers one after another, and the pauses between its calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Answer) -> None:
        self._answers = iter(answers)
        self.requests: list[httpx.Request] = []
        self.pauses: list[float] = []
        self._monkeypatch = monkeypatch

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        # A response can be read once, and parameters of a test serve both clients.
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    def call(
        self,
        kind: str,
        method: str,
        *arguments: Any,
        policy: retry.RetryPolicy | None = None,
        params: Mapping[str, Any] = MappingProxyType({}),
        **options: Any,
    ) -> Any:
        """``Client.method(*arguments, **params)``, or the same of `AsyncClient`, without sleeps."""
        transport = httpx.MockTransport(self)
        if kind == "sync":
            # Not time.sleep itself: threads of other libraries call that, too.
            napping = SimpleNamespace(sleep=self.pauses.append)
            self._monkeypatch.setattr(tenacity.nap, "time", napping)
            with Client("http://test/", transport=transport, **options) as client:
                client.policy = policy or client.policy
                return getattr(client, method)(*arguments, **params)

        async def pause(seconds: float) -> None:
            self.pauses.append(seconds)

        async def call() -> Any:
            async with AsyncClient("http://test/", transport=transport, **options) as client:
                client.policy = policy or client.policy
                self._monkeypatch.setattr(asyncio, "sleep", pause)
                return await getattr(client, method)(*arguments, **params)

        try:
            return asyncio.run(call())
        finally:
            self._monkeypatch.undo()


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


Script = Callable[..., Scripted]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    return lambda *answers: Scripted(monkeypatch, *answers)


def test_it_comes_back_after_a_refusal(script: Script, kind: str) -> None:
    server = script(
        refusal(429, "overloaded", "3"),
        refusal(503, "unavailable"),
        httpx.ConnectError("refused"),
        rewritten("x"),
    )
    assert server.call(kind, "rewrite", "x").rewrites[0].text == "a"
    assert len(server.requests) == 4
    waited_for, second, third = server.pauses
    assert 3 < waited_for <= 3 + retry.FIRST_PAUSE_S
    assert retry.FIRST_PAUSE_S <= second <= 2 * retry.FIRST_PAUSE_S
    assert 2 * retry.FIRST_PAUSE_S <= third <= 4 * retry.FIRST_PAUSE_S


def test_a_date_to_come_back_at(script: Script, kind: str) -> None:
    due = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
    server = script(
        *(refusal(503, "unavailable", text) for text in (due, past, "soon")), rewritten("x")
    )
    server.call(kind, "rewrite", "x")
    assert 15 < server.pauses[0] < 21
    assert all(0 < pause < 1 for pause in server.pauses[1:])


def test_attempts_are_bounded(script: Script, kind: str) -> None:
    server = script(*[refusal(429, "overloaded")] * 9)
    with pytest.raises(ClientError) as caught:
        server.call(kind, "search", "x", attempts=3)
    assert len(server.requests) == 3
    error = caught.value
    assert (error.status, error.error_type, error.request_id) == (429, "overloaded", "r-1")
    assert error.message == str(error) == "a overloaded sentence."
    assert not error.is_bad_input


def test_time_is_bounded(script: Script, kind: str) -> None:
    """A server that asks for more time than there is is not waited for."""
    server = script(refusal(503, "unavailable", "30"), rewritten("x"))
    with pytest.raises(ClientError, match="a unavailable sentence"):
        server.call(kind, "rewrite", "x", timeout_s=29)
    assert server.pauses == []


@pytest.mark.parametrize(
    ("answer", "error_type", "sentence"),
    [
        (refusal(422, "validation"), "validation", "a validation sentence."),
        (refusal(500, "internal"), "internal", "a internal sentence."),
        (httpx.ReadTimeout("slow"), "timeout", "http://test did not answer in time"),
        (httpx.Response(404, text="<html>"), "not_grape", "http://test answered 404, but not as"),
        (httpx.Response(200, text="hello"), "not_grape", "http://test answered 200, but not as"),
        (httpx.Response(200, json=[1]), "not_grape", "http://test answered 200, but not as"),
        (httpx.Response(200, json={"a": 1}), "not_grape", "is it the right address?"),
    ],
)
def test_what_trying_again_cannot_help(
    script: Script, kind: str, answer: Answer, error_type: str, sentence: str
) -> None:
    server = script(answer)
    with pytest.raises(ClientError) as caught:
        server.call(kind, "search", "x")
    assert len(server.requests) == 1
    assert caught.value.error_type == error_type
    assert sentence in caught.value.message
    assert caught.value.is_bad_input == (error_type == "validation" or "404" in sentence)


def test_an_overloaded_server_alone_is_waited_for(script: Script, kind: str) -> None:
    """The policy of measurements, where a server that stops has to be reported at once."""
    policy = retry.RetryPolicy(sys.maxsize, 600, overload_only=True)
    for problem in (refusal(503, "unavailable", "1"), httpx.ConnectError("refused")):
        server = script(refusal(429, "overloaded", "7"), problem)
        with pytest.raises(ClientError):
            server.call(kind, "rewrite", "x", policy=policy)
        (pause,) = server.pauses
        assert 7 < pause < 8


def test_pauses_stop_growing(script: Script, kind: str) -> None:
    server = script(*[refusal(429, "overloaded")] * 19, rewritten("x"))
    server.call(kind, "rewrite", "x", attempts=20)
    assert max(server.pauses) <= retry.LONGEST_PAUSE_S
    assert min(server.pauses[8:]) >= retry.LONGEST_PAUSE_S / 2


def test_ready_asks_once(script: Script, kind: str) -> None:
    loading = {**READY, "ready": False}
    server = script(httpx.Response(503, json=loading), httpx.Response(200, json=READY))
    assert server.call(kind, "ready").ready is False
    assert len(server.requests) == 1


def test_lists_go_in_batches(script: Script, kind: str) -> None:
    server = script(rewritten("a", "b"), rewritten("c"))
    results = server.call(kind, "rewrite_many", ["a", "b", "c"], 2)
    assert [result.query for result in results] == ["a", "b", "c"]
    assert [request.url.path for request in server.requests] == ["/rewrite", "/rewrite"]
    assert script().call(kind, "search_many", []) == []


def test_a_query_with_several_rewrites_takes_as_much_room(script: Script, kind: str) -> None:
    server = script(rewritten("a", "b"), rewritten("c"), rewritten("a", "b", "c"))
    for n, sizes in ((4, [2, 1]), ("auto", [3])):
        server.requests.clear()
        assert len(server.call(kind, "rewrite_many", ["a", "b", "c"], 8, params={"n": n})) == 3
        assert [len(json.loads(sent.content)["query"]) for sent in server.requests] == sizes
    alone = script(rewritten("a"), rewritten("b"))  # more rewrites than fit are sent all the same
    assert len(alone.call(kind, "rewrite_many", ["a", "b"], 2, params={"n": 16})) == 2


def test_without_a_server_the_sentence_says_what_to_do() -> None:
    with (
        Client("http://127.0.0.1:9", attempts=1) as client,
        pytest.raises(ClientError, match=r"cannot be reached .* start a server with `grape serve`"),
    ):
        client.search("x")


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://a", "http://", "http://a:b", ""])
def test_an_address_that_cannot_be_one(url: str) -> None:
    for make in (Client, AsyncClient):
        with pytest.raises(ClientError, match="is not a server address") as caught:
            make(url)
        assert caught.value.is_bad_input


async def test_every_call_over_a_socket(client: httpx.AsyncClient, rewriter: FakeRewriter) -> None:
    """Both clients get the same from a real server."""

    def calls(url: str) -> list[Any]:
        with Client(url) as here:
            return [
                here.ready().ready,
                here.info().index["count"],
                here.search("ein rotes Bild", k=2, rewrite="always", compare=True),
                here.search_many(["a", "b", "c"], batch=2, k=1, rewrite="never"),
                here.search("aber blau", image_id="red.png", k=1),
                here.rewrite("ein rotes Bild", task="long"),
                here.rewrite_many(["a", "b"], temperature=1),
                here.picture("red.png", 32),
            ]

    async with listening(client) as url:
        found = await asyncio.to_thread(calls, url)
        async with AsyncClient(url) as other:
            awaited = [
                (await other.ready()).ready,
                (await other.info()).index["count"],
                await other.search("ein rotes Bild", k=2, rewrite="always", compare=True),
                await other.search_many(["a", "b", "c"], batch=2, k=1, rewrite="never"),
                await other.search("aber blau", image_id="red.png", k=1),
                await other.rewrite("ein rotes Bild", task="long"),
                await other.rewrite_many(["a", "b"], temperature=1),
                await other.picture("red.png", 32),
            ]
        for ready, count, one, many, changed, rewrite, rewrites, picture in (found, awaited):
            assert (ready, count) == (True, len(COLOURS))
            assert one.rewrite.texts == ["a red square"]
            assert one.hits[0].url == f"{url}/images/{one.hits[0].id}"
            assert len(one.original_hits) == 2
            assert (await client.get(one.original_hits[0].url)).is_success
            assert [result.query for result in many] == ["a", "b", "c"]
            assert [len(result.hits) for result in many] == [1, 1, 1]
            assert changed.rewrite.reason == "a picture to be changed: red"
            assert changed.hits[0].id != "red.png"
            assert (rewrite.task, rewrite.status) == ("long", "rewritten")
            assert [len(result.rewrites) for result in rewrites] == [1, 1]
            assert Image.open(io.BytesIO(picture)).size == (32, 32)


async def test_errors_of_the_application(client: httpx.AsyncClient) -> None:
    async with AsyncClient("http://test", transport=client._transport) as here:
        for query, wishes, error_type in (
            ("x", {"k": 0}, ErrorType.VALIDATION),
            ("a\udc80", {}, ErrorType.VALIDATION),  # what a shell makes of broken UTF-8
            ("x" * 40_000, {}, ErrorType.TOO_LARGE),
        ):
            with pytest.raises(ClientError) as caught:
                await here.search(query, **wishes)  # type: ignore[arg-type]
            assert caught.value.error_type == error_type
            assert caught.value.request_id
            assert caught.value.is_bad_input
        with pytest.raises(ClientError, match=r"There is no picture 'no\.png'"):
            await here.picture("no.png")


async def test_it_waits_until_an_overload_is_over(  # type: ignore[no-untyped-def]
    start, rewriter: FakeRewriter
) -> None:
    client = await start(max_in_flight=1)
    rewriter.calls.clear()  # its canary
    rewriter.may_answer.clear()
    async with AsyncClient("http://test", transport=client._transport) as here:
        first = asyncio.create_task(here.search("ein Bild", rewrite="always"))
        while not rewriter.calls:
            await asyncio.sleep(0.01)
        impatient = AsyncClient("http://test", attempts=1, transport=client._transport)
        with pytest.raises(ClientError) as caught:
            await impatient.search("b", rewrite="never")
        assert caught.value.status == 429
        rewriter.may_answer.set()
        assert (await here.search("b", rewrite="never")).hits  # after its Retry-After
        assert (await first).hits
