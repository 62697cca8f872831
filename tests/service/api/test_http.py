"""What proxies, monitors, browsers and odd HTTP clients do."""

import base64
import io
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from models.client.wire import ErrorType
from tests.service.api.test_routes import problem
from tests.support.app import Start


async def test_info_names_no_path_of_this_machine(client: httpx.AsyncClient) -> None:
    answer = await client.get("/info")
    assert answer.json()["index"]["encoder"]["name"] == "local-dir:encoder"
    assert str(Path.home()) not in answer.text
    assert str(Path(__file__).parents[3]) not in answer.text
    assert "/tmp" not in answer.text


async def test_head_is_get_without_its_body(client: httpx.AsyncClient) -> None:
    for path in ("/livez", "/readyz", "/", "/static/page.js", "/images/red.png", "/info"):
        full, head = await client.get(path), await client.head(path)
        assert (head.status_code, head.content) == (200, b""), path
        assert head.headers["content-length"] == str(len(full.content)), path
    assert (await client.head("/search")).status_code == 405


async def test_errors_of_files_and_redirects(client: httpx.AsyncClient) -> None:
    problem(await client.get("/static/nothing.js"), 404, ErrorType.NOT_FOUND)
    for path in ("/static", "/search/", "/docs/"):  # no redirect to the host that was asked for
        problem(await client.get(path, headers={"Host": "localhost"}), 404, ErrorType.NOT_FOUND)
    for bad in ("bytes=9999999-", "junk"):
        for path in ("/", "/static/page.js"):
            assert (await client.get(path, headers={"Range": bad})).status_code == 200


async def test_a_body_that_is_not_marked_as_json_names_the_header(
    client: httpx.AsyncClient,
) -> None:
    for kind in ({}, {"Content-Type": "application/x-www-form-urlencoded"}):
        answer = await client.post("/search", content=b'{"query": "cat"}', headers=kind)
        assert "Content-Type: application/json" in problem(answer, 422, ErrorType.VALIDATION)
    problem(await client.post("/search"), 422, ErrorType.VALIDATION)


async def test_base64_as_programs_write_it(client: httpx.AsyncClient) -> None:
    file = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").resize((64, 64)).save(file, "PNG")
    data = file.getvalue()
    plain = base64.b64encode(data).decode()
    expected = (await client.post("/search", json={"image": plain, "k": 1})).json()["hits"]
    urlsafe = base64.urlsafe_b64encode(data).decode()
    assert urlsafe != plain
    assert plain.endswith("=")
    wrapped = base64.encodebytes(data).decode()  # lines of 76, as `base64 FILE` writes them
    for sent in (
        wrapped,
        wrapped.replace("\n", "\r\n"),
        plain.rstrip("="),
        urlsafe,
        urlsafe.rstrip("="),
        f"data:image/png;base64,{wrapped}",
        f"DATA:image/png;BASE64,{urlsafe}",
    ):
        answer = await client.post("/search", json={"image": sent, "k": 1})
        assert answer.status_code == 200, (sent[:40], answer.text)
        assert answer.json()["hits"] == expected
    for bad in ("a" * 5, "a=b=", "ünïcode", "https://example.org/a.png", "a!bc"):
        problem(await client.post("/search", json={"image": bad}), 422, ErrorType.VALIDATION)


async def test_an_absurd_content_length_is_400(client: httpx.AsyncClient) -> None:
    for length in ("9" * 5000, "0" * 5000 + "5", "-1", "1e3", "x"):
        headers = {"Content-Length": length, "Content-Type": "application/json"}
        answer = await client.post("/search", content=b"{}", headers=headers)
        problem(answer, 400, ErrorType.VALIDATION)


async def test_bodies_in_memory_are_bounded_and_forgotten(start: Start) -> None:
    # One request may have 2000 bytes for its picture; another one of 1500 does not fit beside it.
    client = await start(
        max_image_bytes=1500, max_queries=1, max_query_chars=1, max_bodies_bytes=2500
    )
    for _ in range(5):  # nothing of a request is left counted
        await client.post("/search", json={"query": "a" * 1500})
    seen: list[httpx.Response] = []

    async def slow_body() -> Any:
        yield b" " * 1500
        seen.append(await client.post("/search", json={"query": "a" * 1500}))
        yield b"{}"

    answer = await client.post(
        "/search", content=slow_body(), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422
    problem(seen[0], 429, ErrorType.OVERLOADED)
    assert seen[0].headers["retry-after"] == "1"
    assert (await client.post("/search", json={"query": "a"})).status_code == 200


async def test_only_loopback_and_configured_names_are_served_without_keys(
    start: Start,
) -> None:
    client = await start(allowed_hosts="Pictures.example, ::2, test", rewrite="never")
    names = ("localhost:8000", "127.0.0.1", "[::1]:80", "[::2]", "pictures.example:8", "test")
    for name in names:
        answer = await client.get("/info", headers={"Host": name})
        assert answer.status_code == 200, name
    for name in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8000", "", "[x"):
        answer = await client.post("/search", json={"query": "a"}, headers={"Host": name})
        assert "allowed_hosts" in problem(answer, 403, ErrorType.FORBIDDEN)
        assert (await client.get("/livez", headers={"Host": name})).status_code == 200


async def test_other_origins_are_allowed_only_if_they_are_listed(start: Start) -> None:
    client = await start(
        cors_origins="https://a.example, http://b.example:81/",
        api_keys="shop:search:a-key-of-these-tests-0123456789",
    )
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    for origin in ("https://a.example", "http://b.example:81"):
        preflight = await client.options("/search", headers={"Origin": origin, **ask})
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == origin
        assert "x-api-key" in preflight.headers["access-control-allow-headers"].lower()
        assert "access-control-allow-credentials" not in preflight.headers
        key = {"Origin": origin, "X-API-Key": "a-key-of-these-tests-0123456789"}
        answer = await client.post("/search", json={"query": "ein rotes Bild"}, headers=key)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == origin
    for origin in ("https://b.example", "null", "https://a.example.evil"):
        refused = await client.options("/search", headers={"Origin": origin, **ask})
        problem(refused, 403, ErrorType.FORBIDDEN)
        assert "access-control-allow-origin" not in refused.headers
        headers = (await client.get("/livez", headers={"Origin": origin})).headers
        assert "access-control-allow-origin" not in headers


async def test_no_other_origin_is_allowed_by_default(client: httpx.AsyncClient) -> None:
    origin = {"Origin": "https://a.example"}
    headers = (await client.get("/livez", headers=origin)).headers
    assert "access-control-allow-origin" not in headers
    answer = await client.post("/search", json={"query": ""}, headers=origin)
    problem(answer, 422, ErrorType.VALIDATION)
