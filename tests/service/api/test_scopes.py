"""Scopes and names of keys, sessions, and failed logins."""

import logging
from pathlib import Path

import pytest
from pydantic import ValidationError

from models.client.wire import ErrorType
from service.api.auth import COOKIE
from service.api.sessions import FailedLogins
from service.api_keys import ApiKey
from service.settings import Settings
from tests.service.api.test_routes import problem
from tests.support.app import Start

PLAIN, SHOP, BOSS = (f"{name}-key-of-these-tests-0123" for name in ("plain", "shop", "boss"))
KEYS = f"{PLAIN},shop:search:{SHOP},boss:admin:{BOSS}"


async def test_only_admin_keys_change_adapters_and_names_are_counted(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "grape.requests")
    client = await start(wait=False, api_keys=KEYS, adapter_registry=tmp_path)
    for key, name in ((PLAIN, "key-1"), (SHOP, "shop")):
        for method, path in (("GET", "/admin/adapters"), ("POST", "/admin/adapters")):
            answer = await client.request(method, path, headers={"X-API-Key": key})
            sentence = problem(answer, 403, ErrorType.FORBIDDEN)
            assert name in sentence
            assert "admin" in sentence
    admin = {"Authorization": f"Bearer {BOSS}"}
    assert (await client.post("/admin/adapters", headers=admin)).status_code == 422
    assert (await client.get("/docs", headers={"X-API-Key": SHOP})).status_code == 200
    text = (await client.get("/metrics", headers=admin)).text
    assert 'grape_key_responses_total{key="boss"} 1.0' in text
    assert 'grape_key_responses_total{key="shop"} 3.0' in text
    named = {getattr(record, "key", None) for record in caplog.records}
    assert {"key-1", "shop", "boss"} <= named
    for key in (PLAIN, SHOP, BOSS):
        assert key not in text + caplog.text


async def test_pictures_behind_a_key_are_kept_by_no_proxy(start: Start) -> None:
    client = await start(api_keys=KEYS)
    answer = await client.get("/images/red.png", headers={"X-API-Key": SHOP})
    assert answer.headers["cache-control"] == "private, max-age=3600"
    again = {"X-API-Key": SHOP, "If-None-Match": answer.headers["etag"]}
    unchanged = await client.get("/images/red.png", headers=again)
    assert unchanged.status_code == 304
    assert unchanged.headers["cache-control"] == "private, max-age=3600"
    open_to_all = await start()
    answer = await open_to_all.get("/images/red.png")
    assert answer.headers["cache-control"] == "public, max-age=3600"


async def test_sessions_end_at_logout_and_with_their_key(start: Start) -> None:
    client = await start(wait=False, api_keys=KEYS)
    assert (await client.post("/login", data={"key": SHOP})).status_code == 303
    session = client.cookies[COOKIE]
    assert (await client.get("/docs")).status_code == 200
    assert (await client.get("/admin/adapters")).status_code == 403
    # A page on another port of this machine is the same site, and its requests have the cookie.
    for site in ("same-site", "cross-site"):
        fetched = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
        problem(await client.get("/info", headers=fetched), 401, ErrorType.UNAUTHORIZED)
        opened = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}
        assert (await client.get("/docs", headers=opened)).status_code == 200
        answer = await client.post("/search", json={"query": "a"}, headers=opened)
        problem(answer, 401, ErrorType.UNAUTHORIZED)
    for site in ("same-origin", "none"):
        assert (await client.get("/docs", headers={"Sec-Fetch-Site": site})).status_code == 200
    page = (await client.get("/")).text
    assert '<form method="post" action="/logout"><button' in page
    # A form of a page without referrers sends no origin.
    left = await client.post("/logout", headers={"Origin": "null"})
    assert (left.status_code, left.headers["location"]) == (303, "/")
    assert COOKIE not in client.cookies
    client.cookies.set(COOKIE, session)
    problem(await client.get("/docs"), 401, ErrorType.UNAUTHORIZED)

    client.cookies.clear()
    await client.post("/login", data={"key": SHOP})
    without = await start(wait=False, api_keys=f"{PLAIN},boss:admin:{BOSS}")
    without.cookies.set(COOKIE, client.cookies[COOKIE])
    problem(await without.get("/docs"), 401, ErrorType.UNAUTHORIZED)


async def test_failed_logins_wait_and_are_logged(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    client = await start(wait=False, api_keys=KEYS)
    for _ in range(5):
        assert (await client.post("/login", data={"key": "wrong"})).status_code == 401
    assert caplog.text.count("Failed login from 127.0.0.1") == 5
    assert "wrong" not in caplog.text
    slowed = await client.post("/login", data={"key": SHOP})
    assert slowed.status_code == 429
    assert int(slowed.headers["retry-after"]) in (1, 2)
    # Programs with a valid key behind the same proxy go on.
    assert (await client.get("/docs", headers={"X-API-Key": SHOP})).status_code == 200
    await client.get("/docs", headers={"X-API-Key": "wrong-key"})
    assert "Invalid API key from 127.0.0.1" in caplog.text
    assert "wrong-key" not in caplog.text


def test_each_failure_doubles_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.sessions.time.monotonic", lambda: 100.0)
    failures, waits = FailedLogins(), []
    for _ in range(13):
        failures.failed("192.0.2.1")
        waits.append(failures.wait_s("192.0.2.1"))
    assert waits == [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert failures.wait_s("192.0.2.2") == 0
    failures.succeeded("192.0.2.1")
    assert failures.wait_s("192.0.2.1") == 0


def test_names_and_scopes_are_read_from_the_setting() -> None:
    digest = "A" * 64
    keys = Settings(api_keys=f"{PLAIN},shop:search:{SHOP},boss:admin:sha256:{digest}").api_keys
    assert [key[:2] for key in keys] == [("key-1", "search"), ("shop", "search"), ("boss", "admin")]
    assert isinstance(keys[0], ApiKey)
    assert keys[2].sha256 == digest.lower()
    colons = "not-a-name:at-all:0123456789"  # a key may have colons
    assert Settings(api_keys=colons).api_keys[0].name == "key-1"
    for bad in ("a:admin:short", f"a:admin:{SHOP},a:search:{BOSS}"):
        with pytest.raises(ValidationError):
            Settings(api_keys=bad)
