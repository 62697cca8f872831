"""Searches whose rewriter is a server at --llm-endpoint that answers some queries with nonsense."""

import asyncio
import json

import httpx
import pytest

from models.rewriter.endpoint import EndpointRewriter
from service.runtime import service as state
from tests.support.app import Start

LIMITED = {"error": {"message": "rate limited"}}


class Gateway:
    """Answers 200 to everything: with an error for queries that hold one of these words."""

    def __init__(self, *limits: str) -> None:
        self.limits = limits

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(404)
        prompt = json.loads(request.content)["prompt"]
        query = str(prompt).splitlines()[-2]
        if any(word in query for word in self.limits):
            return httpx.Response(200, json=LIMITED)
        return httpx.Response(200, json={"choices": [{"text": " **a red square**"}]})


@pytest.fixture
def gateway(start: Start, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    answers = Gateway()
    transport = httpx.MockTransport(answers)
    monkeypatch.setattr(
        state, "start_rewriter",
        lambda *_: EndpointRewriter("http://127.0.0.1:9/v1", "x", transport=transport),
    )  # fmt: skip
    return answers


async def test_one_query_without_a_rewrite_does_not_stop_the_others(
    start: Start, gateway: Gateway
) -> None:
    client = await start()
    gateway.limits = ("blaues",)
    queries = ["ein rotes Bild", "ein blaues Bild"]
    answer = await client.post("/search", json={"query": queries, "rewrite": "always"})
    assert answer.status_code == 200
    red, blue = answer.json()["results"]
    assert (red["degraded"], red["rewrite"]["texts"]) == (False, ["a red square"])
    assert (blue["degraded"], blue["rewrite"]["texts"]) == (True, ["ein blaues Bild"])
    assert blue["hits"]
    assert blue["rewrite"]["reason"].endswith("did not answer with a completion: rate limited")
    assert (await client.get("/readyz")).is_success


async def test_a_gateway_that_is_limited_at_the_start_is_a_sentence(
    start: Start, gateway: Gateway
) -> None:
    gateway.limits = ("Word",)
    client = await start(wait=False)
    for _ in range(500):
        ready = (await client.get("/readyz")).json()
        if "loading" not in json.dumps(ready):
            break
        await asyncio.sleep(0.01)
    assert not ready["rewriter"]["ready"]
    assert ready["rewriter"]["reason"] == (
        "http://127.0.0.1:9/v1 did not answer with a completion: rate limited"
    )
