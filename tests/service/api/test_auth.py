"""API keys: every path but the health checks needs one, the page has a login, and without a key
nothing is served beyond loopback.
"""

import hashlib
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.routing import Mount, Route

from models.client import AsyncClient, ClientError
from models.client.wire import ErrorType
from models.common.errors import InputError
from service.api.auth import COOKIE, OPEN_PATHS
from service.api_keys import ApiKey, require_key_beyond_loopback
from service.settings import Settings
from tests.service.api.test_routes import problem
from tests.service.test_commands import grape
from tests.support.loopback import listening

KEY = "a-key-of-these-tests-0123456789"
OTHER = "another-key-of-these-tests-98765"
HASHED = "sha256:" + hashlib.sha256(OTHER.encode()).hexdigest()
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
async def shut(start: Any) -> httpx.AsyncClient:
    """A server with two keys, one of them given as its hash."""
    client = await start(api_keys=f"{KEY}, {HASHED}")
    assert isinstance(client, httpx.AsyncClient)
    return client


def routes_of(client: httpx.AsyncClient) -> list[tuple[str, str]]:
    """Every method and path of the application, whoever declared it."""
    transport = client._transport
    assert isinstance(transport, httpx.ASGITransport)
    found = []
    for route in transport.app.routes:  # type: ignore[attr-defined]
        if isinstance(route, Mount):
            found.append(("GET", f"{route.path}/style.css"))
            continue
        assert isinstance(route, Route), route
        path = route.path.replace("{picture_id:path}", "red.png")
        assert "{" not in path, path
        found += [(method, path) for method in sorted(route.methods or ())]
    assert any(isinstance(route, APIRoute) for route in transport.app.routes)  # type: ignore[attr-defined]
    return found


async def test_every_route_but_the_health_checks_asks_for_a_key(shut: httpx.AsyncClient) -> None:
    routes = routes_of(shut)
    paths = {path for _, path in routes}
    assert {
        "/search",
        "/rewrite",
        "/images/red.png",
        "/metrics",
        "/info",
        "/",
        *OPEN_PATHS,
    } <= paths
    assert {"/docs", "/openapi.json", "/static/style.css"} <= paths
    for method, path in routes:
        without = await shut.request(method, path)
        wrong = await shut.request(method, path, headers={"X-API-Key": KEY[:-1]})
        right = await shut.request(method, path, headers={"X-API-Key": KEY})
        codes = (without.status_code, wrong.status_code)
        if path in OPEN_PATHS:
            assert codes == (right.status_code,) * 2, path
            continue
        assert codes == (401, 401), (method, path)
        assert right.status_code != 401, (method, path)
        if method != "HEAD":
            problem(without, 401, ErrorType.UNAUTHORIZED)
            problem(wrong, 401, ErrorType.UNAUTHORIZED)


@pytest.mark.parametrize(
    "path",
    ["/nowhere", "/livez/", "/livez/../info", "//livez", "/readyz/x", "/LIVEZ", "/login", "/admin"],
)
async def test_what_is_no_route_is_shut_as_well(shut: httpx.AsyncClient, path: str) -> None:
    problem(await shut.get(path), 401, ErrorType.UNAUTHORIZED)


async def test_both_keys_in_both_headers(shut: httpx.AsyncClient) -> None:
    for key in (KEY, OTHER):
        for headers in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"},
                        {"Authorization": f"bearer  {key}"}):  # fmt: skip
            found = await shut.post("/search", json={"query": "a"}, headers=headers)
            assert found.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": KEY},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {HASHED}"},  # who reads the settings does not get in
        {"Authorization": f"Bearer {HASHED.removeprefix('sha256:')}"},
        {"X-API-Key": f"{KEY}x"},
        {"X-API-Key": ""},
        {"X-API-Key": "ключ".encode()},
        {"X-API-Key": b"\xff\xfe"},
        {"Cookie": f"{COOKIE}={KEY}"},
        {"Cookie": f"{COOKIE}="},
    ],
)
async def test_what_is_no_key(shut: httpx.AsyncClient, headers: dict[str, Any]) -> None:
    problem(await shut.get("/info", headers=headers), 401, ErrorType.UNAUTHORIZED)


async def test_a_browser_logs_in_once(shut: httpx.AsyncClient) -> None:
    asked = await shut.get("/?q=caballo", headers=BROWSER)
    assert asked.status_code == 401
    assert 'action="/login"' in asked.text
    assert "default-src 'none'" in asked.headers["content-security-policy"]

    refused = await shut.post("/login", data={"key": "<script>wrong"})
    assert refused.status_code == 401
    assert "Invalid API key." in refused.text
    assert "<script>" not in refused.text
    assert "set-cookie" not in refused.headers

    entered = await shut.post("/login", data={"key": f" {KEY}\n"})
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert KEY not in cookie
    assert (await shut.get("/", headers=BROWSER)).status_code == 200
    assert (await shut.get("/images/red.png")).status_code == 200
    body = {"query": "a"}
    for origin in ({}, {"Origin": "http://test"}):
        assert (await shut.post("/search", json=body, headers=origin)).status_code == 200
    # The cookie goes along with requests of other ports of the same machine.
    other = await shut.post("/search", json=body, headers={"Origin": "http://test:81"})
    problem(other, 401, ErrorType.UNAUTHORIZED)


async def test_a_session_ends_with_the_server(shut: httpx.AsyncClient, start: Any) -> None:
    await shut.post("/login", data={"key": KEY})
    again = await start(api_keys=KEY)
    again.cookies.set(COOKIE, shut.cookies[COOKIE])
    answer = await again.get("/info")
    problem(answer, 401, ErrorType.UNAUTHORIZED)


FORM = "application/x-www-form-urlencoded"
PART = b'--b\r\nContent-Disposition: form-data; name="key"%s\r\n\r\n%s\r\n--b--\r\n'


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (FORM, f"key={KEY}{'+' * 10_000}".encode()),  # too large
        (FORM, b"a=1&" * 10_000 + f"key={KEY}".encode()),
        (FORM, b"&" * 1_000_000),
        (FORM, b""),
        (FORM, b"key"),
        (FORM, b"key=%ff%00%e4&key=\xff\xfe"),
        (FORM, f"other={KEY}".encode()),
        ("text/plain", f"key={KEY}".encode()),
        ("application/json", b"{"),
        ("", f"key={KEY}".encode()),
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=b", b"--b\r\nnot a header\r\n"),
        ("multipart/form-data; boundary=b", PART % (b'; filename="key.txt"', KEY.encode())),
        ("multipart/form-data; boundary=b", PART % (b"", b" " * 10_000)),
        ("multipart/form-data; boundary=b; charset=utf-7", PART % (b"", b"+2AA-")),  # a surrogate
        ("multipart/form-data; boundary=b; charset=idna", PART % (b"", b"xn--\xff")),
        ("multipart/form-data; boundary=b; charset=nonsense", PART % (b"", b"x")),
    ],
)
async def test_a_login_that_cannot_be_read_gets_the_form_again(
    shut: httpx.AsyncClient, kind: str, body: bytes
) -> None:
    answer = await shut.post("/login", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 401
    assert 'action="/login"' in answer.text
    assert "set-cookie" not in answer.headers


async def test_a_login_may_be_multipart(shut: httpx.AsyncClient) -> None:
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    entered = await shut.post("/login", content=PART % (b"", KEY.encode()), headers=kind)
    assert entered.status_code == 303


async def test_without_keys_nothing_is_asked_for(client: httpx.AsyncClient) -> None:
    for path in ("/", "/info", "/docs", "/metrics"):
        assert (await client.get(path)).status_code == 200


async def test_the_client_shows_its_key(
    shut: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(shut) as url:
        async with AsyncClient(url, api_key=KEY) as grape_client:
            assert (await grape_client.search("ein rotes Bild", k=1)).hits
        monkeypatch.setenv("GRAPE_API_KEY", OTHER)
        async with AsyncClient(url) as grape_client:
            assert (await grape_client.info()).llm
        monkeypatch.setenv("GRAPE_API_KEY", "not-one-of-them-0123456789")
        async with AsyncClient(url) as grape_client:
            with pytest.raises(ClientError) as refused:
                await grape_client.info()
    assert (refused.value.status, refused.value.error_type) == (401, "unauthorized")
    assert refused.value.is_bad_input
    with pytest.raises(ClientError, match="API key"):
        AsyncClient(api_key="schlüssel")


async def test_answers_say_what_a_browser_may_do_with_them(client: httpx.AsyncClient) -> None:
    for path in ("/", "/docs", "/livez", "/nowhere", "/images/red.png", "/static/page.js"):
        headers = (await client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy or "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in (await client.get("/")).headers["content-security-policy"]


async def test_an_unforeseen_error_has_the_headers_too(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.search.plan.decide", lambda *_: 1 / 0)
    answer = await client.post("/search", json={"query": "a"})
    assert answer.status_code == 500
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    counted = 'grape_responses_total{code="500",route="/search"} 1.0'
    assert counted in (await client.get("/metrics")).text


def test_keys_are_kept_as_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPE_API_KEYS", f"{KEY}, {HASHED},")
    settings = Settings()
    expected = tuple(hashlib.sha256(key.encode()).hexdigest() for key in (KEY, OTHER))
    assert tuple(key.sha256 for key in settings.api_keys) == expected
    assert KEY not in repr(settings)


@pytest.mark.parametrize("keys", ["short", "sha256:abc", f"sha256:{'g' * 64}", f"{KEY},short", [1]])
def test_what_cannot_be_a_key_is_refused(keys: object) -> None:
    with pytest.raises(ValidationError):
        Settings(api_keys=keys)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_key(address: str) -> None:
    require_key_beyond_loopback(address, ())


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "::", "192.0.2.7", "::ffff:127.0.0.1", "a.example", "localhost.example"]
)
def test_beyond_loopback_a_key_is_needed(address: str) -> None:
    require_key_beyond_loopback(address, (ApiKey("one", "search", "some hash"),))
    with pytest.raises(InputError, match="GRAPE_API_KEYS"):
        require_key_beyond_loopback(address, ())


@pytest.mark.parametrize(
    "flags", [("--host", "0.0.0.0"), ("--published-on", "0.0.0.0"), ("--api-keys", "short")]
)
def test_serving_the_network_without_a_key_ends_at_once(flags: tuple[str, str]) -> None:
    done = grape("serve", "--port", "0", "--llm", "none", *flags)
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1
    assert "key" in done.stderr
