"""What a running server shows from outside: metrics by stage, queue and cause, and its health."""

import asyncio
import re
from collections.abc import Awaitable, Callable

import httpx
import pytest

from models.rewriter.protocol import RewriteFailed, RewriterDown
from service.api import health_probe
from tests.support.app import COLOURS, FakeRewriter
from tests.support.loopback import listening

Start = Callable[..., Awaitable[httpx.AsyncClient]]


async def value(client: httpx.AsyncClient, series: str) -> float:
    text = (await client.get("/metrics")).text
    found = re.search(rf"^{re.escape(series)} (\S+)$", text, re.M)
    assert found, f"{series} is not in\n{text}"
    return float(found[1])


async def test_each_stage_is_timed(client: httpx.AsyncClient) -> None:
    await client.post("/search", json={"query": "ein rotes Bild", "rewrite": "always"})
    for stage in ("rewrite", "encode", "search", "fuse", "total"):
        assert await value(client, f'grape_stage_seconds_count{{stage="{stage}"}}') == 1


@pytest.mark.parametrize(
    ("cause", "error", "answer", "delay"),
    [
        ("failed", RewriteFailed("it broke"), "x", 0.0),
        ("down", RewriterDown("it died"), "x", 0.0),
        ("unusable", None, "", 0.0),
        ("timeout", None, "x", 5.0),
    ],
)
async def test_fallbacks_are_counted_by_cause(
    start: Start,
    rewriter: FakeRewriter,
    cause: str,
    error: Exception | None,
    answer: str,
    delay: float,
) -> None:
    client = await start(rewrite_timeout_s=0.05)
    rewriter.error, rewriter.delay, rewriter.answers["ein Bild"] = error, delay, answer
    found = await client.post("/search", json={"query": "ein Bild", "rewrite": "always"})
    assert found.json()["degraded"]
    for known in ("not_ready", "timeout", "down", "unusable", "failed"):
        assert await value(client, f'grape_fallbacks_total{{cause="{known}"}}') == (known == cause)


async def test_a_rewriter_that_is_not_ready_is_a_cause(
    start: Start, rewriter: FakeRewriter
) -> None:
    rewriter.error = RewriterDown("it does not start")
    client = await start(wait=False)
    body = {"query": "ein Bild", "rewrite": "always"}
    while (await client.post("/search", json=body)).status_code == 503:  # it still loads
        await asyncio.sleep(0.01)
    assert await value(client, 'grape_fallbacks_total{cause="not_ready"}') == 1
    assert await value(client, 'grape_ready{part="rewriter"}') == 0
    assert await value(client, 'grape_ready{part="index"}') == 1


@pytest.mark.parametrize("rewrite_cache", [0, 10])
async def test_what_is_at_work_is_seen_while_it_is(
    start: Start, rewriter: FakeRewriter, rewrite_cache: int
) -> None:
    client = await start(rewrite_cache=rewrite_cache, max_in_flight=7)
    rewriter.calls.clear()  # its canary
    rewriter.may_answer.clear()
    body = {"query": ["ein Bild", "noch ein Bild"], "rewrite": "always"}
    asked = asyncio.create_task(client.post("/search", json=body))
    while len(rewriter.calls) < 2:
        await asyncio.sleep(0.01)
    assert await value(client, "grape_in_flight_queries") == 2
    assert await value(client, 'grape_queue_depth{queue="rewriter"}') == 2
    rewriter.may_answer.set()
    assert (await asked).status_code == 200
    assert await value(client, "grape_in_flight_queries") == 0
    assert await value(client, 'grape_queue_depth{queue="rewriter"}') == 0
    assert await value(client, 'grape_queue_depth{queue="encoder"}') == 0
    assert await value(client, "grape_in_flight_limit") == 7


async def test_what_is_served_is_reported(client: httpx.AsyncClient) -> None:
    text = (await client.get("/metrics")).text
    line = next(line for line in text.splitlines() if line.startswith("grape_build_info{"))
    told = dict(re.findall(r'(\w+)="([^"]*)"', line))
    manifest = (await client.get("/info")).json()["index"]
    assert told["index_version"] == manifest["generation"]
    assert told["encoder"] == manifest["encoder"]["weights_sha256"][:12]
    assert told["pictures"] == str(len(COLOURS))
    assert told["llm"] == "gemma3-270m"


async def test_the_health_check_asks_readyz(
    start: Start,
    rewriter: FakeRewriter,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = await start(api_keys="a-key-of-these-tests-0123456789")
    async with listening(client) as url:
        monkeypatch.setenv("GRAPE_HOST", "0.0.0.0")
        monkeypatch.setenv("GRAPE_PORT", url.rpartition(":")[2])
        monkeypatch.setenv("http_proxy", "http://192.0.2.1:3128")
        assert await asyncio.to_thread(health_probe.main) == 0
        rewriter.error = RewriterDown("it died")
        while (await client.get("/readyz")).is_success:
            await asyncio.sleep(0.01)
        capsys.readouterr()
        assert await asyncio.to_thread(health_probe.main) == 1
        assert '"ready":false' in capsys.readouterr().out
    assert await asyncio.to_thread(health_probe.main) == 1
