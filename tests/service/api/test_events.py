"""POST /search with `Accept: text/event-stream`."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from models.client.wire import SearchResult
from models.rewriter.protocol import RewriteFailed
from tests.support.app import FakeRewriter
from tests.support.loopback import listening

EVENTS = {"Accept": "text/event-stream"}
GERMAN = "ein rotes Bild"


def parsed(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.strip().split("\n\n"):
        name, data = block.splitlines()  # at every character that Python breaks lines at
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


async def ask(client: httpx.AsyncClient, **body: object) -> list[tuple[str, Any]]:
    response = await client.post("/search", json=body, headers=EVENTS)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-request-id"]
    return parsed(response.text)


async def test_direct_hits_then_the_rewrite_then_the_answer(client: httpx.AsyncClient) -> None:
    events = await ask(client, query=GERMAN, k=3)
    assert [name for name, _ in events] == ["direct", "rewrite", "rewrite", "result"]
    assert [data["text"] for name, data in events if name == "rewrite"] == ["a r", "a red square"]
    plain = (await client.post("/search", json={"query": GERMAN, "k": 3})).json()
    streamed = SearchResult.model_validate(events[-1][1])
    assert [hit.id for hit in streamed.hits] == [hit["id"] for hit in plain["hits"]]
    assert set(events[-1][1]) == set(plain)
    typed = (
        await client.post("/search", json={"query": GERMAN, "k": 3, "rewrite": "never"})
    ).json()
    assert [hit["id"] for hit in events[0][1]["hits"]] == [hit["id"] for hit in typed["hits"]]
    assert len(events[0][1]["hits"]) == 3


@pytest.mark.parametrize("mode", ["auto", "never"])
async def test_a_kept_query_has_no_rewrite(client: httpx.AsyncClient, mode: str) -> None:
    events = await ask(client, query="a red square", rewrite=mode)
    assert [name for name, _ in events] == ["direct", "result"]
    assert events[0][1]["hits"] == events[1][1]["hits"]


async def test_of_several_rewrites_the_most_probable_one_is_streamed(
    client: httpx.AsyncClient,
) -> None:
    events = await ask(client, query=GERMAN, rewrite="always", n=2, compare=True)
    assert [name for name, _ in events] == ["direct", "rewrite", "rewrite", "result"]
    assert events[2][1]["text"] == events[3][1]["rewrite"]["texts"][0] == "a red square"
    assert events[-1][1]["original_hits"] == events[0][1]["hits"]


@pytest.mark.parametrize("query", ["ein\u2028Bild", "ein\x85Bild", "a\n\nb", "data: x\r\ny"])
async def test_line_breaks_in_a_query_break_no_event(client: httpx.AsyncClient, query: str) -> None:
    events = await ask(client, query=query, rewrite="always", k=1)
    assert events[-1][0] == "result"
    assert events[-1][1]["query"] == query


async def test_a_failed_rewrite_still_answers(
    client: httpx.AsyncClient, rewriter: FakeRewriter
) -> None:
    rewriter.error = RewriteFailed("no")
    events = await ask(client, query=GERMAN)
    assert [name for name, _ in events] == ["direct", "result"]
    assert events[1][1]["degraded"]


async def test_bad_input_is_refused_before_the_stream(client: httpx.AsyncClient) -> None:
    for body in ({"query": ["a", "b"]}, {"query": ""}, {"query": "a", "k": 0}):
        response = await client.post("/search", json=body, headers=EVENTS)
        assert response.status_code == 422
        assert set(response.json()) == {"error", "error_type", "request_id"}


async def test_an_unforeseen_error_is_an_event(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("service.search.answered", broken)
    events = await ask(client, query=GERMAN)
    assert [name for name, _ in events] == ["error"]
    assert events[0][1]["error_type"] == "internal"
    assert "secret" not in str(events)


async def test_a_client_that_takes_json_gets_json(client: httpx.AsyncClient) -> None:
    accept = {"Accept": "application/json, text/event-stream;q=0.1"}
    answer = await client.post("/search", json={"query": ["a", "b"]}, headers=accept)
    assert len(answer.json()["results"]) == 2


async def test_a_burst_of_streams_is_limited(
    start: Callable[..., Any], rewriter: FakeRewriter
) -> None:
    client = await start(max_in_flight=2)
    rewriter.may_answer.clear()
    asked = [
        asyncio.create_task(
            client.post("/search", json={"query": f"frage {number}"}, headers=EVENTS)
        )
        for number in range(12)
    ]
    while sum(one.done() for one in asked) < 10:  # the refused
        await asyncio.sleep(0.01)
    rewriter.may_answer.set()
    codes = [response.status_code for response in await asyncio.gather(*asked)]
    assert sorted(codes) == [200] * 2 + [429] * 10
    again = await client.post("/search", json={"query": GERMAN}, headers=EVENTS)
    assert again.status_code == 200


async def test_the_direct_hits_do_not_wait_and_a_client_who_leaves_stops_the_rewrite(
    start: Callable[..., Any], rewriter: FakeRewriter
) -> None:
    """Over a real socket: in process, the whole answer would be collected first."""
    client = await start(max_in_flight=1)
    rewriter.delay = 30
    async with listening(client) as url, httpx.AsyncClient(base_url=url) as asking:
        async with asking.stream(
            "POST", "/search", json={"query": GERMAN}, headers=EVENTS
        ) as response:
            async with asyncio.timeout(10):
                first = await anext(response.aiter_lines())
            assert first == "event: direct"
            busy = await asking.post("/search", json={"query": GERMAN})
            assert busy.status_code == 429
        async with asyncio.timeout(10):
            while not rewriter.cancelled:
                await asyncio.sleep(0.02)
        rewriter.delay = 0
        async with asyncio.timeout(10):
            while (await asking.post("/search", json={"query": GERMAN})).status_code == 429:
                await asyncio.sleep(0.02)
