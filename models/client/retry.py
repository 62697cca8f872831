"""One exchange with a GRAPE server, as both clients have it: a request that is tried again while
that can help, and in the end an answer or one error.
"""

import json
import os
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from models.client.wire import ErrorBody
from models.common.errors import GrapeError

FIRST_PAUSE_S = 0.25  # doubled with every attempt
COME_BACK = (429, 503)  # too much to do, or still loading

Shape = TypeVar("Shape", bound=BaseModel)
Outcome = httpx.Response | httpx.RequestError


class ClientError(GrapeError):
    """Why there is no answer.

    Attributes:
        error_type: the server's word, from the closed list ``ErrorType``; or
            ``unreachable``, ``timeout``, ``not_grape`` (something else answers there),
            ``address`` or ``key`` (it cannot be one).
        message: one sentence that says what is wrong and what to do next.
        request_id: what the server's log knows the request by; None without its answer.
        status: of HTTP; None without an answer.
    """

    def __init__(
        self,
        error_type: str,
        message: str,
        request_id: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.request_id = request_id
        self.status = status

    @property
    def is_bad_input(self) -> bool:
        """Whether asking for something else would help, and asking again would not."""
        refused = self.status is not None and 400 <= self.status < 500
        return self.error_type in ("address", "key") or (refused and self.status not in COME_BACK)


class RetryPolicy:
    """How often and how long one call is tried."""

    def __init__(self, attempts: int, timeout_s: float) -> None:
        self._attempts = attempts
        self._ends = time.monotonic() + timeout_s
        self._tried = 0

    @property
    def left_s(self) -> float:
        return max(self._ends - time.monotonic(), 0.001)  # httpx refuses none at all

    def pause(self, outcome: Outcome) -> float | None:
        """Seconds until it is worth trying again; None when the outcome stands."""
        self._tried += 1
        if self._tried >= self._attempts or not _may_pass(outcome):
            return None
        # Clients that were turned away together must not come back together.
        pause = FIRST_PAUSE_S * 2 ** (self._tried - 1) * random.uniform(0.5, 1)
        if isinstance(outcome, httpx.Response):
            pause += _retry_after_s(outcome.headers.get("Retry-After", ""))
        return pause if pause < self.left_s else None


def checked(url: str) -> str:
    """The address of a server without a slash at its end."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ClientError(
            "address", f"{url!r} is no address of a server; write it like http://127.0.0.1:8000."
        )
    return url.rstrip("/")


def key_headers(api_key: str | None) -> dict[str, str]:
    """What shows the key, or the one in ``GRAPE_API_KEY``; nothing where there is neither."""
    key = (api_key or os.environ.get("GRAPE_API_KEY", "")).strip()
    if not key:
        return {}
    if not (key.isascii() and key.isprintable()):
        raise ClientError(
            "key", "The API key has characters that no key has; was it cut or joined?"
        )
    return {"Authorization": f"Bearer {key}"}


def request(
    http: httpx.Client | httpx.AsyncClient,
    method: str,
    path: str,
    body: Mapping[str, object] | None,
    timeout_s: float,
) -> httpx.Request:
    """The request; what JSON cannot say in UTF-8, such as half a surrogate pair, goes escaped."""
    if body is None:
        return http.build_request(method, path, timeout=timeout_s)
    headers = {"Content-Type": "application/json"}
    content = json.dumps(body)
    return http.build_request(method, path, content=content, headers=headers, timeout=timeout_s)


def settled(outcome: Outcome, accepted: tuple[int, ...], url: str) -> httpx.Response:
    """The response, when its status is an accepted one.

    Raises:
        ClientError: it is not, or there is none.
    """
    if isinstance(outcome, httpx.TimeoutException) and not isinstance(
        outcome, httpx.ConnectTimeout
    ):
        raise ClientError(
            "timeout", f"{url} did not answer in time; ask for less at once, or wait longer."
        ) from outcome
    if isinstance(outcome, httpx.RequestError):
        raise ClientError(
            "unreachable",
            f"{url} cannot be reached ({outcome}): start a server with `grape serve`, or name "
            "the address of one that runs.",
        ) from outcome
    if outcome.status_code in accepted:
        return outcome
    try:
        problem = ErrorBody.model_validate_json(outcome.content)
    except ValidationError as error:
        raise _not_grape(url, outcome.status_code) from error
    raise ClientError(problem.error_type, problem.error, problem.request_id, outcome.status_code)


def as_json(response: httpx.Response, url: str) -> dict[str, Any]:
    """The object in the answer.

    Raises:
        ClientError: there is none.
    """
    try:
        content = response.json()
    except ValueError as error:
        raise _not_grape(url, response.status_code) from error
    if not isinstance(content, dict):
        raise _not_grape(url, response.status_code)
    return content


def parsed(content: Mapping[str, Any], shape: type[Shape], url: str) -> Shape:
    """The answer in its type.

    Raises:
        ClientError: it has another shape.
    """
    try:
        return shape.model_validate(content)
    except ValidationError as error:
        raise _not_grape(url, 200) from error


def _may_pass(outcome: Outcome) -> bool:
    """Whether trying again can help; a server that was too slow once is not asked for more."""
    if isinstance(outcome, httpx.Response):
        return outcome.status_code in COME_BACK
    return isinstance(
        outcome, httpx.NetworkError | httpx.ConnectTimeout | httpx.RemoteProtocolError
    )


def _retry_after_s(header: str) -> float:
    """Seconds, or a date that a proxy gave; nothing where it is neither."""
    if header.isascii() and header.isdigit():
        return float(header)
    try:
        due = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    if due.tzinfo is None:
        due = due.replace(tzinfo=UTC)
    return max((due - datetime.now(UTC)).total_seconds(), 0.0)


def _not_grape(url: str, status: int) -> ClientError:
    return ClientError(
        "not_grape",
        f"{url} answered {status}, but not as a GRAPE server of this version does; "
        "is it the right address?",
        status=status,
    )
