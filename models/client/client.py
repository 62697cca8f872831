"""Calls a running GRAPE server: `Client`, and `AsyncClient` for asyncio.

Needs neither a model nor torch. `models/client/base.py` builds the requests and reads the answers.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Self, TypeVar, Unpack

import httpx
from tenacity import AsyncRetrying, Retrying

from models.client.arguments import DEFAULT_URL
from models.client.base import (
    BATCH,
    BaseClient,
    Batches,
    Call,
    key_headers,
    proxies_told,
)
from models.client.errors import ClientError
from models.client.params import Document, FeedbackParams, RerankParams, RewriteParams, SearchParams
from models.client.retry import RetryPolicy
from models.client.wire import Info, Readiness, RerankResponse, RewriteResult, SearchResult
from models.common.proxies import is_on_this_machine

Answer = TypeVar("Answer")
Result = TypeVar("Result")


class Client(BaseClient):
    """A connection to one server; close it, or use it in a ``with`` block.

    No call changes anything on the server. So a call is tried again when the server is overloaded
    (429), still loading (503) or cannot be reached, at growing intervals and never before the
    server's ``Retry-After``. Every method raises `ClientError`. URLs of pictures are absolute.

    Args:
        url: the server's URL.
        api_key: the server's API key, if it requires one; by default ``GRAPE_API_KEY``.
        attempts: how often a call is tried in all.
        timeout_s: seconds after which no attempt is started any more.
        transport: an httpx transport, for tests and proxies.

    Raises:
        ClientError: ``url`` is not a URL, or ``api_key`` cannot be a key.
    """

    _http: httpx.Client

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        attempts: int = 4,
        timeout_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(url, RetryPolicy(attempts, timeout_s))
        headers = key_headers(api_key)
        with proxies_told():
            if transport is None and is_on_this_machine(self.url):
                transport = httpx.HTTPTransport()
            self._http = httpx.Client(base_url=self.url, transport=transport, headers=headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def search(self, query: str | None = None, **params: Unpack[SearchParams]) -> SearchResult:
        """Searches by text, by a picture, or by both.

        A hit's ``score`` is the probability that it is the picture looked for; ``confident`` says
        whether that of the first hit is above a half.
        """
        return self._send(self._search(query, params))

    def search_many(
        self, queries: Iterable[str], batch: int = BATCH, **params: Unpack[SearchParams]
    ) -> list[SearchResult]:
        """Searches for each query; results in the same order.

        Args:
            queries: a list, a generator or any other iterable.
            batch: rewrites in a request; a query with ``n`` counts ``n``, with "auto" 1. Fewer are
                sent at a time if the server takes no more.
        """
        return self._collect(self._search_batches(queries, batch, params))

    def rewrite(self, query: str, **params: Unpack[RewriteParams]) -> RewriteResult:
        """Rewrites a query, even one in plain English. Each rewrite has its probability."""
        return self._send(self._rewrite(query, params))

    def rewrite_many(
        self, queries: Iterable[str], batch: int = BATCH, **params: Unpack[RewriteParams]
    ) -> list[RewriteResult]:
        """Rewrites each query; results in the same order.

        Args:
            queries: a list, a generator or any other iterable.
            batch: rewrites in a request; a query with ``n`` counts ``n``, with "auto" 1. Fewer are
                sent at a time if the server takes no more.
        """
        return self._collect(self._rewrite_batches(queries, batch, params))

    def rerank(
        self, query: str, documents: Iterable[str | Document], **params: Unpack[RerankParams]
    ) -> RerankResponse:
        """Orders documents by how well they fit a query, the best first."""
        return self._send(self._rerank(query, documents, params))

    def feedback(self, picture_id: str, relevant: bool, **params: Unpack[FeedbackParams]) -> None:
        """Tells a server with ``--feedback`` whether a picture is what was looked for."""
        self._send(self._feedback(picture_id, relevant, params))

    def info(self) -> Info:
        """Returns versions, models, adapter, index and limits of the server."""
        return self._send(self._info())

    def ready(self) -> Readiness:
        """Returns whether rewriter, encoder and index can be used, and why not. Never retries."""
        return self._send(self._ready(), RetryPolicy(1, self.policy.timeout_s))

    def picture(self, picture_id: str, size: int = 512) -> bytes:
        """Returns a picture of the index as WebP, its longer side ``size`` pixels."""
        return self._send(self._picture(picture_id, size))

    def ask(self, route: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Returns the JSON answer to ``POST route``, for what the other methods do not cover."""
        return self._send(self._ask(route, body))

    def _collect(self, batches: Batches[Result]) -> list[Result]:
        try:
            call = next(batches)
            while True:
                try:
                    found = self._send(call)
                except ClientError as error:
                    call = batches.throw(error)
                else:
                    call = batches.send(found)
        except StopIteration as done:
            results: list[Result] = done.value
            return results

    def _send(self, call: Call[Answer], policy: RetryPolicy | None = None) -> Answer:
        policy = policy or self.policy
        deadline = policy.deadline()

        def attempt() -> httpx.Response:
            return self._http.send(self._request(call, deadline))

        try:
            response = Retrying(**policy.options())(attempt)
        except httpx.RequestError as error:
            raise self._no_answer(error) from error
        return self._answer(call, response)


class AsyncClient(BaseClient):
    """`Client` for asyncio: the same arguments, and the same methods to be awaited."""

    _http: httpx.AsyncClient

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        attempts: int = 4,
        timeout_s: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(url, RetryPolicy(attempts, timeout_s))
        headers = key_headers(api_key)
        with proxies_told():
            if transport is None and is_on_this_machine(self.url):
                transport = httpx.AsyncHTTPTransport()
            self._http = httpx.AsyncClient(base_url=self.url, transport=transport, headers=headers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def search(
        self, query: str | None = None, **params: Unpack[SearchParams]
    ) -> SearchResult:
        """Searches by text, by a picture, or by both.

        A hit's ``score`` is the probability that it is the picture looked for; ``confident`` says
        whether that of the first hit is above a half.
        """
        return await self._send(self._search(query, params))

    async def search_many(
        self, queries: Iterable[str], batch: int = BATCH, **params: Unpack[SearchParams]
    ) -> list[SearchResult]:
        """Searches for each query; results in the same order.

        Args:
            queries: a list, a generator or any other iterable.
            batch: rewrites in a request; a query with ``n`` counts ``n``, with "auto" 1. Fewer are
                sent at a time if the server takes no more.
        """
        return await self._collect(self._search_batches(queries, batch, params))

    async def rewrite(self, query: str, **params: Unpack[RewriteParams]) -> RewriteResult:
        """Rewrites a query, even one in plain English. Each rewrite has its probability."""
        return await self._send(self._rewrite(query, params))

    async def rewrite_many(
        self, queries: Iterable[str], batch: int = BATCH, **params: Unpack[RewriteParams]
    ) -> list[RewriteResult]:
        """Rewrites each query; results in the same order.

        Args:
            queries: a list, a generator or any other iterable.
            batch: rewrites in a request; a query with ``n`` counts ``n``, with "auto" 1. Fewer are
                sent at a time if the server takes no more.
        """
        return await self._collect(self._rewrite_batches(queries, batch, params))

    async def rerank(
        self, query: str, documents: Iterable[str | Document], **params: Unpack[RerankParams]
    ) -> RerankResponse:
        """Orders documents by how well they fit a query, the best first."""
        return await self._send(self._rerank(query, documents, params))

    async def feedback(
        self, picture_id: str, relevant: bool, **params: Unpack[FeedbackParams]
    ) -> None:
        """Tells a server with ``--feedback`` whether a picture is what was looked for."""
        await self._send(self._feedback(picture_id, relevant, params))

    async def info(self) -> Info:
        """Returns versions, models, adapter, index and limits of the server."""
        return await self._send(self._info())

    async def ready(self) -> Readiness:
        """Returns whether rewriter, encoder and index can be used, and why not. Never retries."""
        return await self._send(self._ready(), RetryPolicy(1, self.policy.timeout_s))

    async def picture(self, picture_id: str, size: int = 512) -> bytes:
        """Returns a picture of the index as WebP, its longer side ``size`` pixels."""
        return await self._send(self._picture(picture_id, size))

    async def ask(self, route: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Returns the JSON answer to ``POST route``, for what the other methods do not cover."""
        return await self._send(self._ask(route, body))

    async def _collect(self, batches: Batches[Result]) -> list[Result]:
        try:
            call = next(batches)
            while True:
                try:
                    found = await self._send(call)
                except ClientError as error:
                    call = batches.throw(error)
                else:
                    call = batches.send(found)
        except StopIteration as done:
            results: list[Result] = done.value
            return results

    async def _send(self, call: Call[Answer], policy: RetryPolicy | None = None) -> Answer:
        policy = policy or self.policy
        deadline = policy.deadline()

        async def attempt() -> httpx.Response:
            return await self._http.send(self._request(call, deadline))

        try:
            response: httpx.Response = await AsyncRetrying(**policy.options())(attempt)
        except httpx.RequestError as error:
            raise self._no_answer(error) from error
        return self._answer(call, response)
