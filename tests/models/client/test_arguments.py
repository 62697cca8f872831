"""What people pass to the clients: it works, or one sentence says what to pass."""

import base64
import json
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.client import AsyncClient, Client, ClientError
from tests.models.client.test_client import refusal, rewritten


class Small:
    """A server that takes so many queries in a request, and answers 413 to more."""

    def __init__(self, most: int = 100) -> None:
        self._most = most
        self.sizes: list[int] = []
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.bodies.append(body)
        queries = body["query"] if isinstance(body["query"], list) else [body["query"]]
        self.sizes.append(len(queries))
        return refusal(413, "too_large") if len(queries) > self._most else rewritten(*queries)


def client_of(server: Small) -> Client:
    return Client("http://test", transport=httpx.MockTransport(server))


async def two() -> AsyncIterator[str]:
    yield "a"
    yield "b"


@pytest.mark.parametrize(
    ("method", "argument", "sentence"),
    [
        ("search", ["cat"], "A query is a str, not list: search_many takes several queries."),
        ("search", ("cat", "dog"), "not tuple: search_many"),
        ("search", b"cat", "A query is a str, not bytes: decode it, as in query.decode()."),
        ("search", Path("cat.png"), "for a picture, pass image=path instead."),
        ("search", 7, "A query is a str, not int: pass str(query) if that is what you mean."),
        ("rewrite", None, "A query is a str, not NoneType"),
        ("rewrite", ["cat"], "not list: rewrite_many takes several"),
        ("search_many", "cat", "This takes several queries, not one str: use search for one"),
        ("rewrite_many", b"cat", "not one bytes: use rewrite for one query."),
        ("search_many", Path("x"), "not one PosixPath: use search"),
        ("search_many", 7, "Queries are a list of str, not int."),
        ("search_many", None, "Queries are a list of str, not NoneType."),
        ("search_many", {"a": 1}, "Queries are a list of str, not dict."),
        ("search_many", ["a", b"b"], "queries[1] is a str, not bytes."),
        ("rewrite_many", ["a", None], "queries[1] is a str, not NoneType."),
        ("picture", 7, "An id is a str, not int."),
    ],
)
async def test_a_wrong_type_is_one_sentence(method: str, argument: Any, sentence: str) -> None:
    server = Small()
    with client_of(server) as client, pytest.raises(ClientError) as caught:
        getattr(client, method)(argument)
    transport = httpx.MockTransport(server)
    async with AsyncClient("http://test", transport=transport) as other:
        with pytest.raises(ClientError) as awaited:
            await getattr(other, method)(argument)
    assert sentence in caught.value.message
    assert awaited.value.message == caught.value.message
    assert caught.value.error_type == "argument"
    assert caught.value.is_bad_input
    assert server.sizes == []


def test_several_queries_come_from_any_iterable() -> None:
    with client_of(Small()) as client:
        mapped = {"a": 1, "b": 2}
        for queries in (["a", "b"], ("a", "b"), deque("ab"), (q for q in "ab"), mapped.keys()):
            assert [result.query for result in client.rewrite_many(queries)] == ["a", "b"]
        assert client.rewrite_many(iter([])) == []
        with pytest.raises(ClientError, match="make a list with `async for` first"):
            client.rewrite_many(two())  # type: ignore[arg-type]


def test_a_picture_is_base64_bytes_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"picture")
    encoded = base64.b64encode(b"picture").decode()
    server = Small()
    with client_of(server) as client:
        for image in (encoded, b"picture", tmp_path / "cat.png"):
            client.rewrite("x", image=image)
        with pytest.raises(ClientError, match=r"none\.png cannot be read: No such file"):
            client.rewrite("x", image=tmp_path / "none.png")
    assert [body["image"] for body in server.bodies] == [encoded] * 3


@pytest.mark.parametrize(("most", "sizes"), [(3, [8, 4, 2, 2, 2, 2]), (8, [8]), (4, [8, 4, 4])])
async def test_as_many_queries_as_the_server_takes(most: int, sizes: list[int]) -> None:
    queries = list("abcdefgh")
    server = Small(most)
    with client_of(server) as client:
        assert [result.query for result in client.rewrite_many(queries)] == queries
    assert server.sizes == sizes
    server = Small(most)
    async with AsyncClient("http://test", transport=httpx.MockTransport(server)) as other:
        assert [result.query for result in await other.rewrite_many(queries)] == queries
    assert server.sizes == sizes


def test_a_query_that_is_too_large_alone_is_an_error() -> None:
    server = Small(0)
    with client_of(server) as client, pytest.raises(ClientError) as caught:
        client.rewrite_many(["a", "b"])
    assert (caught.value.status, server.sizes) == (413, [2, 1])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"batch": 0}, "batch is a whole number from 1, not 0."),
        ({"batch": "8"}, "batch is a whole number from 1, not '8'."),
        ({"temperature": {1, 2}}, "cannot be written as JSON: Object of type set"),
        ({"temperature": float("nan")}, "cannot be written as JSON: "),
    ],
)
def test_other_arguments_that_cannot_be_sent(given: dict[str, Any], sentence: str) -> None:
    with client_of(Small()) as client, pytest.raises(ClientError) as caught:
        client.rewrite_many(["a"], **given)
    assert sentence in caught.value.message
    assert caught.value.error_type == "argument"


def test_what_only_the_server_can_judge_is_sent() -> None:
    server = Small()
    with client_of(server) as client:
        for n in (0, -1, "many"):
            client.rewrite_many(["a"], n=n)  # type: ignore[arg-type]
    assert [body["n"] for body in server.bodies] == [0, -1, "many"]


@pytest.mark.parametrize("make", [Client, AsyncClient])
def test_arguments_of_the_client_itself(make: Any) -> None:
    for url in (None, 7, Path("x"), b"http://a"):
        with pytest.raises(ClientError, match="is not a server address"):
            make(url)
    for options in ({"attempts": 0}, {"attempts": "3"}, {"timeout_s": None}):
        with pytest.raises(ClientError, match=r"is a .*number"):
            make("http://test", **options)


@pytest.mark.parametrize("make", [Client, AsyncClient])
@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "gopher://x", "http://user:secret@a:b"])
def test_an_unusable_proxy_is_one_sentence(
    make: Any, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    make("http://localhost:8000")
    with pytest.raises(ClientError, match=r"The proxy in ALL_PROXY cannot be used") as caught:
        make("http://example.org")
    assert "secret" not in str(caught.value)
    assert caught.value.is_bad_input


async def test_loopback_is_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    here, away = Client("http://127.0.0.1:8000"), Client("http://example.org")
    assert here._http._mounts == {}
    assert len(away._http._mounts) > 0
    assert AsyncClient("http://[::1]:8000")._http._mounts == {}
