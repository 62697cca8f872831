"""Asks a running GRAPE server: `Client`, and `AsyncClient` for asyncio.

Needs httpx and pydantic, no model and no server: `models/client/retry.py` has how a call goes.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Self, TypedDict, Unpack
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict

from models.client.retry import (
    ClientError,
    Outcome,
    RetryPolicy,
    as_json,
    checked,
    key_headers,
    parsed,
    request,
    settled,
)
from models.client.wire import (
    Readiness,
    RewriteResponse,
    RewriteResult,
    SearchResult,
    SearchResults,
)
from models.search.options import Fusion, RewriteMode

__all__ = ["AsyncClient", "Client", "ClientError", "Info", "RewriteWishes", "SearchWishes"]

DEFAULT_URL = "http://127.0.0.1:8000"
BATCH = 64  # the server's `max_queries`, unless it was set otherwise


class SearchWishes(TypedDict, total=False):
    """What a search may ask for; the server decides what is left out."""

    k: int
    rewrite: RewriteMode
    fusion: Fusion
    n: int
    compare: bool
    image: str  # base64; the query says what is to be different about it, or is left out
    image_id: str  # the same of a picture of the index
    with_reference: bool


class RewriteWishes(TypedDict, total=False):
    """What a rewrite may ask for; the server decides what is left out."""

    task: Literal["auto", "multilingual", "long", "composed"]
    image: str  # of task composed
    n: int
    temperature: float


class Info(BaseModel):
    """What ``GET /info`` tells; a newer server may tell more."""

    model_config = ConfigDict(extra="allow")

    versions: dict[str, str]
    llm: str
    llm_endpoint: str | None
    adapter: str | None
    rewrite: RewriteMode
    fusion: Fusion
    clip_token_limit: int
    index: dict[str, Any]
    limits: dict[str, int]


class Client:
    """A connection to one server, to be closed or used in a ``with`` block.

    No call changes anything on the server, so each is tried again when the server is overloaded
    (429), still loading (503) or cannot be reached: ``attempts`` times in all, at growing
    intervals that are never shorter than its ``Retry-After``, for ``timeout_s`` seconds at most.
    Every method raises `ClientError`. The addresses of pictures are made absolute. Without
    ``api_key`` the variable ``GRAPE_API_KEY`` has the server's key, where it asks for one.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        attempts: int = 4,
        timeout_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = checked(url)
        self._attempts = attempts
        self._timeout_s = timeout_s
        self._http = httpx.Client(
            base_url=self.url, transport=transport, headers=key_headers(api_key)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def search(self, query: str | None = None, **wishes: Unpack[SearchWishes]) -> SearchResult:
        """Searches once, with words, a picture, or both."""
        answer = self.ask("/search", {"query": query, **wishes})
        return _absolute(parsed(answer, SearchResult, self.url), self.url)

    def search_many(
        self, queries: Sequence[str], batch: int = BATCH, **wishes: Unpack[SearchWishes]
    ) -> list[SearchResult]:
        """Searches with each query, ``batch`` of them in one request; results in their order."""
        found: list[SearchResult] = []
        for some in _batches(queries, batch):
            answer = self.ask("/search", {"query": some, **wishes})
            found += parsed(answer, SearchResults, self.url).results
        return [_absolute(result, self.url) for result in found]

    def rewrite(self, query: str, **wishes: Unpack[RewriteWishes]) -> RewriteResult:
        """Rewrites once, plain English too."""
        answer = self.ask("/rewrite", {"query": query, **wishes})
        return parsed(answer, RewriteResponse, self.url).results[0]

    def rewrite_many(
        self, queries: Sequence[str], batch: int = BATCH, **wishes: Unpack[RewriteWishes]
    ) -> list[RewriteResult]:
        """Rewrites each query, ``batch`` of them in one request; results in their order."""
        rewritten: list[RewriteResult] = []
        for some in _batches(queries, batch):
            answer = self.ask("/rewrite", {"query": some, **wishes})
            rewritten += parsed(answer, RewriteResponse, self.url).results
        return rewritten

    def info(self) -> Info:
        """Versions, models, adapter, index and limits of the server."""
        return parsed(as_json(self._send("GET", "/info"), self.url), Info, self.url)

    def ready(self) -> Readiness:
        """Whether rewriter, encoder and index can be used, and why not; asks once."""
        response = self._send("GET", "/readyz", attempts=1, accepted=(200, 503))
        return parsed(as_json(response, self.url), Readiness, self.url)

    def picture(self, picture_id: str, size: int = 512) -> bytes:
        """A picture of the index as WebP, its longer side ``size`` pixels."""
        return self._send("GET", _picture_path(picture_id, size)).content

    def ask(self, route: str, body: Mapping[str, object]) -> dict[str, Any]:
        """The answer to ``POST route`` as it comes, for what the other methods do not cover."""
        return as_json(self._send("POST", route, body), self.url)

    def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        attempts: int | None = None,
        accepted: tuple[int, ...] = (200,),
    ) -> httpx.Response:
        policy = RetryPolicy(attempts or self._attempts, self._timeout_s)
        while True:
            outgoing = request(self._http, method, path, body, policy.left_s)
            outcome: Outcome
            try:
                outcome = self._http.send(outgoing)
            except httpx.RequestError as error:
                outcome = error
            pause = policy.pause(outcome)
            if pause is None:
                return settled(outcome, accepted, self.url)
            time.sleep(pause)


class AsyncClient:
    """`Client` for asyncio: the same methods, to be awaited."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        attempts: int = 4,
        timeout_s: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = checked(url)
        self._attempts = attempts
        self._timeout_s = timeout_s
        self._http = httpx.AsyncClient(
            base_url=self.url, transport=transport, headers=key_headers(api_key)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def search(
        self, query: str | None = None, **wishes: Unpack[SearchWishes]
    ) -> SearchResult:
        """Searches once, with words, a picture, or both."""
        answer = await self.ask("/search", {"query": query, **wishes})
        return _absolute(parsed(answer, SearchResult, self.url), self.url)

    async def search_many(
        self, queries: Sequence[str], batch: int = BATCH, **wishes: Unpack[SearchWishes]
    ) -> list[SearchResult]:
        """Searches with each query, ``batch`` of them in one request; results in their order."""
        found: list[SearchResult] = []
        for some in _batches(queries, batch):
            answer = await self.ask("/search", {"query": some, **wishes})
            found += parsed(answer, SearchResults, self.url).results
        return [_absolute(result, self.url) for result in found]

    async def rewrite(self, query: str, **wishes: Unpack[RewriteWishes]) -> RewriteResult:
        """Rewrites once, plain English too."""
        answer = await self.ask("/rewrite", {"query": query, **wishes})
        return parsed(answer, RewriteResponse, self.url).results[0]

    async def rewrite_many(
        self, queries: Sequence[str], batch: int = BATCH, **wishes: Unpack[RewriteWishes]
    ) -> list[RewriteResult]:
        """Rewrites each query, ``batch`` of them in one request; results in their order."""
        rewritten: list[RewriteResult] = []
        for some in _batches(queries, batch):
            answer = await self.ask("/rewrite", {"query": some, **wishes})
            rewritten += parsed(answer, RewriteResponse, self.url).results
        return rewritten

    async def info(self) -> Info:
        """Versions, models, adapter, index and limits of the server."""
        return parsed(as_json(await self._send("GET", "/info"), self.url), Info, self.url)

    async def ready(self) -> Readiness:
        """Whether rewriter, encoder and index can be used, and why not; asks once."""
        response = await self._send("GET", "/readyz", attempts=1, accepted=(200, 503))
        return parsed(as_json(response, self.url), Readiness, self.url)

    async def picture(self, picture_id: str, size: int = 512) -> bytes:
        """A picture of the index as WebP, its longer side ``size`` pixels."""
        return (await self._send("GET", _picture_path(picture_id, size))).content

    async def ask(self, route: str, body: Mapping[str, object]) -> dict[str, Any]:
        """The answer to ``POST route`` as it comes, for what the other methods do not cover."""
        return as_json(await self._send("POST", route, body), self.url)

    async def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        attempts: int | None = None,
        accepted: tuple[int, ...] = (200,),
    ) -> httpx.Response:
        policy = RetryPolicy(attempts or self._attempts, self._timeout_s)
        while True:
            outgoing = request(self._http, method, path, body, policy.left_s)
            outcome: Outcome
            try:
                outcome = await self._http.send(outgoing)
            except httpx.RequestError as error:
                outcome = error
            pause = policy.pause(outcome)
            if pause is None:
                return settled(outcome, accepted, self.url)
            await asyncio.sleep(pause)


def _batches(queries: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(queries), size):
        yield list(queries[start : start + size])


def _absolute(result: SearchResult, url: str) -> SearchResult:
    for hit in [*result.hits, *(result.original_hits or [])]:
        hit.url = hit.url and url + hit.url
    return result


def _picture_path(picture_id: str, size: int) -> str:
    return f"/images/{quote(picture_id)}?size={size}"
