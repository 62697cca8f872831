"""What is written down of requests: with their id, and of queries nothing unless that is asked."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service import logs

QUERY = "ein geheimes Bild"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the logs would print; they are as they were before when the test ends."""
    stream = io.StringIO()
    root, requests = logging.getLogger(), logging.getLogger("grape.requests")
    before = (root.handlers[:], root.level, requests.level)
    monkeypatch.setattr("sys.stderr", stream)
    yield stream
    root.handlers[:], root.level = before[0], before[1]
    requests.setLevel(before[2])


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def ask(client: httpx.AsyncClient) -> None:
    headers = {"X-Request-ID": "mine-1"}
    await client.post("/search", json={"query": QUERY}, headers=headers)
    await client.get("/livez")
    await client.get("/images/red.png")


async def test_json_has_a_line_for_every_request(start: Any, written: io.StringIO) -> None:
    client = await start()
    logs.set_up("json")
    await ask(client)
    search, image = lines(written)
    assert search["request_id"] == "mine-1"
    assert (search["method"], search["route"], search["status"]) == ("POST", "/search", 200)
    assert search["ms"] > 0
    assert search["level"] == "info"
    assert image["route"] == "/images/{picture_id:path}"
    assert QUERY not in written.getvalue()


@pytest.mark.parametrize("form", ["text", "json"])
async def test_queries_are_logged_only_when_asked(
    start: Any, written: io.StringIO, form: logs.LogFormat
) -> None:
    client = await start(log_queries=True)
    logs.set_up(form)
    await ask(client)
    assert QUERY in written.getvalue()
    if form == "json":
        assert lines(written)[0]["queries"] == [QUERY]
        assert lines(written)[0]["request_id"] == "mine-1"


async def test_text_is_quiet_about_requests(start: Any, written: io.StringIO) -> None:
    client = await start()
    logs.set_up("text")
    await ask(client)
    assert written.getvalue() == ""


def test_a_traceback_is_one_line_of_json(written: io.StringIO) -> None:
    logs.set_up("json")
    try:
        raise ValueError("Grüße\nin two lines")
    except ValueError:
        logging.getLogger("grape").exception("it failed")
    (line,) = lines(written)
    assert line["message"] == "it failed"
    assert "Grüße\nin two lines" in line["traceback"]
