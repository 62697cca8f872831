"""Bad input, errors in one shape, pictures, health, metrics, the page."""

import base64
import io
import time
from collections.abc import AsyncIterator

import httpx
import pytest
from PIL import Image

from models.client.wire import ErrorBody, ErrorType
from service.api.app import PAGE
from service.retrieval import BatchedRetriever
from service.runtime import loading
from service.runtime import service as state
from service.settings import Settings
from tests.support.app import COLOURS, Start

PIXEL = base64.b64encode(b"x").decode()


def problem(response: httpx.Response, status: int, kind: ErrorType) -> str:
    assert response.status_code == status, response.text
    body = ErrorBody.model_validate(response.json())
    assert set(response.json()) == {"error", "error_type", "request_id"}
    assert body.error_type == kind
    assert body.request_id == response.headers["x-request-id"]
    return body.error


@pytest.mark.parametrize("route", ["/search", "/rewrite"])
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": ""},
        {"query": "   "},
        {"query": "a\x00b"},
        {"query": []},
        {"query": [""]},
        {"query": ["a", None]},
        {"query": 3},
        {"query": {"a": 1}},
        {"query": "a", "unknown": 1},
        {"query": "a", "n": 17},
        {"query": "a", "n": "many"},
        {"query": "a", "image": "http://127.0.0.1/secret.png"},
        {"query": "a", "image": "data:image/png,raw"},
        [],
        "text",
        None,
    ],
)
async def test_bad_input_is_422(client: httpx.AsyncClient, route: str, body: object) -> None:
    problem(await client.post(route, json=body), 422, ErrorType.VALIDATION)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("", "query: String should have at least 1 character"),
        (["a", ""], "query.1: String should have at least 1 character"),
        ([], "query: List should have at least 1 item after validation, not 0"),
        (5, "query: Input should be a valid string"),
    ],
)
async def test_a_bad_query_is_named_in_one_sentence(
    client: httpx.AsyncClient, query: object, sentence: str
) -> None:
    response = await client.post("/search", json={"query": query})
    assert problem(response, 422, ErrorType.VALIDATION) == sentence


@pytest.mark.parametrize("k", [0, -1, 1001, "x", 1.5])
async def test_k_is_bounded(client: httpx.AsyncClient, k: object) -> None:
    sentence = problem(
        await client.post("/search", json={"query": "a", "k": k}), 422, ErrorType.VALIDATION
    )
    assert sentence.startswith("k: ")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b'{"query": "\\ud800"}', b'{"query": NaN}', b"[" * 100_000],
)
async def test_broken_json_is_4xx(client: httpx.AsyncClient, content: bytes) -> None:
    response = await client.post(
        "/search", content=content, headers={"content-type": "application/json"}
    )
    assert 400 <= response.status_code < 500
    ErrorBody.model_validate(response.json())


@pytest.mark.parametrize(
    "query",
    ["🙂👩‍👩‍👧‍👦", "مرحبا", "\u202eabc", "a" * 15_000, "中" * 15_000, "'; DROP TABLE", "\t\n x"],
)
async def test_odd_queries_are_answered(client: httpx.AsyncClient, query: str) -> None:
    response = await client.post("/search", json={"query": query, "rewrite": "never"})
    assert response.status_code == 200
    assert response.json()["query"] == query.strip()


async def test_limits_of_the_settings(start: Start) -> None:
    client = await start(max_query_chars=10, max_queries=2, max_image_bytes=100)
    problem(await client.post("/search", json={"query": "a" * 11}), 413, ErrorType.TOO_LARGE)
    problem(await client.post("/search", json={"query": ["a"] * 3}), 413, ErrorType.TOO_LARGE)
    problem(await client.post("/search", content=b"x" * 1000), 413, ErrorType.TOO_LARGE)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    problem(await client.post("/search", content=chunks()), 413, ErrorType.TOO_LARGE)


async def test_other_routes_and_methods(client: httpx.AsyncClient) -> None:
    problem(await client.get("/nowhere"), 404, ErrorType.NOT_FOUND)
    problem(await client.get("/search"), 405, ErrorType.METHOD_NOT_ALLOWED)
    problem(await client.get("/static/../app.py"), 404, ErrorType.NOT_FOUND)


async def test_an_unforeseen_error_is_500_without_details(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr("models.search.plan.decide", broken)
    sentence = problem(await client.post("/search", json={"query": "a"}), 500, ErrorType.INTERNAL)
    assert "secret" not in sentence


async def test_nothing_waits_while_loading(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    real = loading.load_retriever

    def slow(settings: Settings) -> BatchedRetriever:
        time.sleep(1)
        return real(settings)

    monkeypatch.setattr(state, "load_retriever", slow)
    client = await start(wait=False)
    assert (await client.get("/livez")).status_code == 200
    assert (await client.get("/")).status_code == 200
    assert (await client.get("/readyz")).status_code == 503
    problem(await client.post("/search", json={"query": "a"}), 503, ErrorType.UNAVAILABLE)


async def test_request_ids(client: httpx.AsyncClient) -> None:
    given = await client.get("/livez", headers={"X-Request-ID": "mine-1"})
    assert given.headers["x-request-id"] == "mine-1"
    for bad in ("a b", "x" * 65, "<script>"):
        answer = await client.get("/livez", headers={"X-Request-ID": bad})
        assert answer.headers["x-request-id"] != bad


async def test_pictures_are_rasters_of_the_size_asked_for(client: httpx.AsyncClient) -> None:
    response = await client.get("/images/red.png?size=32")
    assert response.headers["content-type"] == "image/webp"
    image = Image.open(io.BytesIO(response.content))
    assert (image.format, image.size) == ("WEBP", (32, 32))
    etag = response.headers["etag"]
    again = await client.get("/images/red.png?size=32", headers={"If-None-Match": etag})
    assert again.status_code == 304


@pytest.mark.parametrize(
    "path", ["nothing.png", "../index/manifest.json", "..%2f..%2fetc%2fpasswd"]
)
async def test_only_pictures_of_the_index_are_served(client: httpx.AsyncClient, path: str) -> None:
    problem(await client.get(f"/images/{path}"), 404, ErrorType.NOT_FOUND)


@pytest.mark.parametrize("size", [0, 15, 2049, "big"])
async def test_sizes_are_bounded(client: httpx.AsyncClient, size: object) -> None:
    problem(await client.get(f"/images/red.png?size={size}"), 422, ErrorType.VALIDATION)


async def test_info_and_metrics(client: httpx.AsyncClient) -> None:
    await client.post("/search", json={"query": "ein Bild"})
    await client.get("/images/red.png")
    info = (await client.get("/info")).json()
    assert info["index"]["count"] == len(COLOURS)
    assert info["clip_token_limit"] == 77
    assert info["limits"]["max_queries"] == 64
    assert "pictures" not in info["index"]  # clients need no path of the server
    text = (await client.get("/metrics")).text
    assert 'grape_queries_total{status="rewritten"} 1.0' in text
    assert 'grape_stage_seconds_count{stage="encode"} 1.0' in text
    assert 'grape_responses_total{code="200",route="/images/{picture_id:path}"} 1.0' in text
    assert "ein Bild" not in text


async def test_page_and_docs_load_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    files = [f"/static/{file.relative_to(PAGE)}" for file in PAGE.rglob("*.*")]
    assert {"/static/page.js", "/static/search.js", "/static/style.css"} <= set(files)
    for path in ("/", "/docs", *files):
        response = await client.get(path)
        assert response.status_code == 200
        assert "https://" not in response.text.replace("https://fastapi.tiangolo.com", "")
    assert "default-src 'self'" in (await client.get("/")).headers["content-security-policy"]
