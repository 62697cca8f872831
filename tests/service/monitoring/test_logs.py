"""What is logged of requests, with their ids, and that queries are logged only if asked."""

import json
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from service.monitoring import logs

QUERY = "ein geheimes Bild"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root, requests = logging.getLogger(), logging.getLogger("grape.requests")
    handlers, levels = root.handlers[:], (root.level, requests.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    requests.setLevel(levels[1])


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


async def ask(client: httpx.AsyncClient) -> None:
    headers = {"X-Request-ID": "mine-1"}
    await client.post("/search", json={"query": QUERY}, headers=headers)
    await client.get("/livez")
    await client.get("/images/red.png")


async def test_json_has_a_line_for_every_request(
    start: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    client = await start()
    logs.set_up("json")
    await ask(client)
    written = capsys.readouterr().err
    search, image = lines(written)
    assert search["request_id"] == "mine-1"
    assert (search["method"], search["route"], search["status"]) == ("POST", "/search", 200)
    assert search["ms"] > 0
    assert search["level"] == "info"
    assert list(search) == [
        *("time", "level", "logger", "message"),
        *("method", "route", "status", "ms", "request_id"),
    ]
    assert datetime.fromisoformat(search["time"]).utcoffset() == timedelta(0)
    assert image["route"] == "/images/{picture_id:path}"
    assert QUERY not in written


@pytest.mark.parametrize("form", ["text", "json"])
async def test_queries_are_logged_only_when_asked(
    start: Any, capsys: pytest.CaptureFixture[str], form: logs.LogFormat
) -> None:
    client = await start(log_queries=True)
    logs.set_up(form)
    await ask(client)
    written = capsys.readouterr().err
    assert QUERY in written
    if form == "json":
        assert lines(written)[0]["queries"] == [QUERY]
        assert lines(written)[0]["request_id"] == "mine-1"


async def test_text_is_quiet_about_requests(start: Any, capsys: pytest.CaptureFixture[str]) -> None:
    client = await start()
    logs.set_up("text")
    await ask(client)
    assert capsys.readouterr().err == ""


def test_a_traceback_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("json")
    try:
        raise ValueError("Grüße\nin two lines")
    except ValueError:
        logging.getLogger("grape").exception("it failed")
    (line,) = lines(capsys.readouterr().err)
    assert line["message"] == "it failed"
    assert "Grüße\nin two lines" in line["traceback"]
    assert set(line) == {"time", "level", "logger", "message", "traceback"}
