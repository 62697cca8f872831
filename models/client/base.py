"""What both clients share: the URL, the key, building requests and reading answers."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from models.client.arguments import (
    checked_count,
    checked_documents,
    checked_queries,
    checked_query,
    checked_url,
    image_sent,
)
from models.client.errors import ClientError
from models.client.params import (
    Document,
    FeedbackParams,
    RerankParams,
    RewriteParams,
    SearchParams,
)
from models.client.retry import RetryPolicy
from models.client.wire import (
    ErrorBody,
    Info,
    Readiness,
    RerankResponse,
    RewriteResponse,
    RewriteResult,
    SearchResult,
    SearchResults,
)
from models.common.proxies import UnusableProxy, unusable_proxy_told
from models.search.options import RewriteCount

BATCH = 64  # rewrites in one request; the server's default `max_queries` allows no more queries

TOO_LARGE = 413

Answer = TypeVar("Answer")
Result = TypeVar("Result")
Shape = TypeVar("Shape", bound=BaseModel)


@dataclass(frozen=True)
class Call(Generic[Answer]):
    """One request, and how its answer is read."""

    method: str
    path: str
    read: Callable[[httpx.Response], Answer]
    body: Mapping[str, object] | None = None
    accepted: tuple[int, ...] = (200,)


class BaseClient:
    """Makes calls and reads answers. Subclasses send, wait and name the public methods.

    Attributes:
        url: the server's URL, without a slash at the end.
        policy: which calls are tried again; may be replaced between calls.
    """

    _http: httpx.Client | httpx.AsyncClient

    def __init__(self, url: str, policy: RetryPolicy) -> None:
        self.url = checked_url(url)
        checked_count("attempts", policy.attempts)
        if not isinstance(policy.timeout_s, int | float):
            raise ClientError("argument", f"timeout_s is a number, not {policy.timeout_s!r}.")
        self.policy = policy

    def _search(self, query: str | None, params: SearchParams) -> Call[SearchResult]:
        def read(response: httpx.Response) -> SearchResult:
            return self._with_absolute_urls(self._parsed(response, SearchResult))

        if query is not None:
            query = checked_query(query, "search_many")
        return Call("POST", "/search", read, {"query": query, **image_sent(params)})

    def _search_batches(
        self, queries: Iterable[str], batch: int, params: SearchParams
    ) -> "Batches[SearchResult]":
        def read(response: httpx.Response) -> list[SearchResult]:
            results = self._parsed(response, SearchResults).results
            return [self._with_absolute_urls(result) for result in results]

        sent = image_sent(params)
        return _batches(
            checked_queries(queries, "search"),
            _batch_size(batch, params.get("n")),
            lambda some: Call("POST", "/search", read, {"query": some, **sent}),
        )

    def _rewrite(self, query: str, params: RewriteParams) -> Call[RewriteResult]:
        def read(response: httpx.Response) -> RewriteResult:
            results = self._parsed(response, RewriteResponse).results
            if len(results) != 1:
                raise self._not_grape(response)
            return results[0]

        query = checked_query(query, "rewrite_many")
        return Call("POST", "/rewrite", read, {"query": query, **image_sent(params)})

    def _rewrite_batches(
        self, queries: Iterable[str], batch: int, params: RewriteParams
    ) -> "Batches[RewriteResult]":
        def read(response: httpx.Response) -> list[RewriteResult]:
            return self._parsed(response, RewriteResponse).results

        sent = image_sent(params)
        return _batches(
            checked_queries(queries, "rewrite"),
            _batch_size(batch, params.get("n")),
            lambda some: Call("POST", "/rewrite", read, {"query": some, **sent}),
        )

    def _feedback(self, picture_id: str, relevant: bool, params: FeedbackParams) -> Call[None]:
        body = {"id": picture_id, "relevant": relevant, **params}
        return Call("POST", "/feedback", lambda answer: None, body, accepted=(202,))

    def _rerank(
        self, query: str, documents: Iterable[str | Document], params: RerankParams
    ) -> Call[RerankResponse]:
        def read(response: httpx.Response) -> RerankResponse:
            return self._parsed(response, RerankResponse)

        query = checked_query(query, "each call")
        body = {"query": query, "documents": checked_documents(documents), **params}
        return Call("POST", "/rerank", read, body)

    def _info(self) -> Call[Info]:
        return Call("GET", "/info", lambda response: self._parsed(response, Info))

    def _ready(self) -> Call[Readiness]:
        def read(response: httpx.Response) -> Readiness:
            return self._parsed(response, Readiness)

        return Call("GET", "/readyz", read, accepted=(200, 503))

    def _picture(self, picture_id: str, size: int) -> Call[bytes]:
        if not isinstance(picture_id, str):
            raise ClientError("argument", f"An id is a str, not {type(picture_id).__name__}.")
        path = f"/images/{quote(picture_id)}?size={size}"
        return Call("GET", path, lambda response: response.content)

    def _ask(self, route: str, body: Mapping[str, object]) -> Call[dict[str, Any]]:
        return Call("POST", route, self._json, body)

    def _request(self, call: Call[Any], deadline: float) -> httpx.Request:
        timeout_s = max(deadline - time.monotonic(), 0.001)  # httpx rejects 0
        if call.body is None:
            return self._http.build_request(call.method, call.path, timeout=timeout_s)
        try:
            # This escapes what UTF-8 cannot encode, such as one half of a surrogate pair.
            content = json.dumps(call.body, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ClientError(
                "argument", f"The parameters cannot be written as JSON: {error}."
            ) from error
        return self._http.build_request(
            call.method,
            call.path,
            content=content,
            headers={"Content-Type": "application/json"},
            timeout=timeout_s,
        )

    def _answer(self, call: Call[Answer], response: httpx.Response) -> Answer:
        """Reads the response.

        Raises:
            ClientError: the server reported an error, or the answer is not one of GRAPE's.
        """
        if response.status_code in call.accepted:
            return call.read(response)
        try:
            problem = ErrorBody.model_validate_json(response.content)
        except ValidationError as error:
            raise self._not_grape(response) from error
        raise ClientError(
            problem.error_type, problem.error, problem.request_id, response.status_code
        )

    def _no_answer(self, error: httpx.RequestError) -> ClientError:
        if isinstance(error, httpx.TimeoutException) and not isinstance(
            error, httpx.ConnectTimeout
        ):
            return ClientError(
                "timeout",
                f"{self.url} did not answer in time; send fewer queries at once, or wait longer.",
            )
        return ClientError(
            "unreachable",
            f"{self.url} cannot be reached ({error}): start a server with `grape serve`, or give "
            "the address of one that is running.",
        )

    def _not_grape(self, response: httpx.Response) -> ClientError:
        return ClientError(
            "not_grape",
            f"{self.url} answered {response.status_code}, but not as a GRAPE server of this "
            "version would; is it the right address?",
            status=response.status_code,
        )

    def _parsed(self, response: httpx.Response, shape: type[Shape]) -> Shape:
        try:
            return shape.model_validate_json(response.content)
        except ValidationError as error:
            raise self._not_grape(response) from error

    def _json(self, response: httpx.Response) -> dict[str, Any]:
        try:
            content = response.json()
        except ValueError as error:
            raise self._not_grape(response) from error
        if not isinstance(content, dict):
            raise self._not_grape(response)
        return content

    def _with_absolute_urls(self, result: SearchResult) -> SearchResult:
        for hit in [*result.hits, *(result.original_hits or [])]:
            hit.url = hit.url and self.url + hit.url
        return result


def key_headers(api_key: str | None) -> dict[str, str]:
    """The header with the API key, by default the one in ``GRAPE_API_KEY``; empty without a key."""
    key = (api_key or os.environ.get("GRAPE_API_KEY", "")).strip()
    if not key:
        return {}
    if not (key.isascii() and key.isprintable()):
        raise ClientError(
            "key", "The API key contains characters that no key has; was it copied correctly?"
        )
    return {"Authorization": f"Bearer {key}"}


@contextlib.contextmanager
def proxies_told() -> Iterator[None]:
    """Raises `ClientError` if the environment names a proxy that cannot be used."""
    try:
        with unusable_proxy_told():
            yield
    except UnusableProxy as error:
        raise ClientError("proxy", str(error)) from error


# Yields requests, is sent their results, or the error, and returns all results.
Batches = Generator[Call[list[Result]], list[Result], list[Result]]


def _batch_size(rewrites: int, n: RewriteCount | None) -> int:
    """The queries that take so many rewrites; with "auto" a query counts as one."""
    checked_count("batch", rewrites)
    return max(1, rewrites // n) if isinstance(n, int) and n > 0 else rewrites


def _batches(
    queries: list[str], size: int, call_for: Callable[[list[str]], Call[list[Result]]]
) -> Batches[Result]:
    """Sends ``size`` queries at a time, or as many as the server takes.

    The server's limits and its own ``n`` are its settings: it answers 413 to too many.
    """
    results: list[Result] = []
    while some := queries[len(results) : len(results) + size]:
        try:
            found = yield call_for(some)
        except ClientError as error:
            if error.status != TOO_LARGE or len(some) == 1:
                raise
            size = len(some) // 2
            continue
        if len(found) != len(some):
            raise ClientError(
                "not_grape", f"The server answered {len(found)} of {len(some)} queries."
            )
        results += found
    return results
