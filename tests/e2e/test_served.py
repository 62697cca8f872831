"""A server as a service manager runs it: behind a key, with a JSON log, ended by SIGTERM."""

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.service.test_commands import grape
from tests.support.grape_server import Server

KEY = "a-key-of-these-tests-0123456789"


@pytest.fixture
def shut(tmp_path: Path) -> Iterator[Server]:
    flags = ("--llm", "none", "--api-keys", KEY, "--log-format", "json")
    server = Server(tmp_path / "log", *flags)
    try:
        server.client.headers["X-API-Key"] = KEY
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


def test_the_shell_shows_its_key(shut: Server) -> None:
    refused = grape("search", "guitar", "--url", shut.url)
    assert refused.returncode == 2
    assert "API key" in refused.stderr
    for how in ({"GRAPE_API_KEY": KEY}, {}):
        flags = () if how else ("--api-key", KEY)
        found = grape("search", "guitar", "-k", "1", "--url", shut.url, *flags, **how)
        assert found.returncode == 0, found.stderr
        assert "guitar" in found.stdout


def test_sigterm_finishes_what_is_at_work(shut: Server) -> None:
    long = "a guitar beside a drum and a trumpet " * 40  # 64 of them take the encoder a second
    body = {"query": [f"{long}{number}" for number in range(64)]}
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(shut.client.post, "/search", json={**body, "rewrite": "never"})
        while "grape_in_flight_queries 64.0" not in shut.client.get("/metrics").text:
            assert not asked.done(), "it was answered before anybody saw it at work"
        shut.process.send_signal(signal.SIGTERM)
        assert asked.result().status_code == 200
    answered = time.monotonic()
    assert shut.process.wait(30) == 0
    assert time.monotonic() - answered < 3
    lines = [json.loads(line) for line in shut.log.read_text().splitlines()]
    assert [line["status"] for line in lines if line.get("route") == "/search"] == [200]
    assert "GRAPE is at" in lines[0]["message"]
    assert "guitar" not in shut.log.read_text()
