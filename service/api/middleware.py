"""What every request gets: an id, a limit on its body, and a log line and a count at the end."""

import re
import time
import uuid
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.client.wire import ErrorType
from service.errors import error_response
from service.monitoring import logs
from service.monitoring.metrics import Metrics
from service.security_headers import add_security_headers

_CLIENT_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_LENGTH = re.compile(rb"\d{1,18}")  # int() refuses thousands of digits


class RequestContext:
    """Plain ASGI: Starlette's own middleware base costs more than a search of the demo gallery."""

    def __init__(self, app: ASGIApp, metrics: Metrics, max_body: int, max_bodies: int) -> None:
        """
        Args:
            max_body: bytes of the largest valid request.
            max_bodies: bytes of all bodies in memory at a time, at least ``max_body``.
        """
        self._app = app
        self._metrics = metrics
        self._max_body = max_body
        self._max_bodies = max(max_body, max_bodies)
        self._bodies = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = dict(scope["headers"])
        request_id = _request_id(headers.get(b"x-request-id", b""))
        logs.request_id.set(request_id)
        scope.setdefault("state", {})["request_id"] = request_id
        only_head = scope["method"] == "HEAD"
        inner = _as_get_without_range(scope)
        started = time.perf_counter()
        answered = False

        def record(status: int) -> None:
            nonlocal answered
            answered = True
            self._record(inner, scope["method"], status, started)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = MutableHeaders(raw=list(message["headers"]))
                own["X-Request-ID"] = request_id
                add_security_headers(own, scope["path"])
                message["headers"] = own.raw
                record(message["status"])
            elif only_head:
                message = {**message, "body": b""}
            await send(message)

        if refusal := self._refusal(request_id, headers.get(b"content-length", b"0")):
            return await refusal(inner, receive, send_with_id)
        body = _Body(self, receive)
        try:
            return await self._app(inner, body.receive, send_with_id)
        except Exception:  # Starlette answers it outside this middleware
            if not answered:
                record(500)
            raise
        finally:
            self._bodies -= body.received

    def _refusal(self, request_id: str, announced: bytes) -> Response | None:
        if not _LENGTH.fullmatch(announced):
            sentence = "The header Content-Length is not a length."
            return error_response(request_id, 400, ErrorType.VALIDATION, sentence, _CLOSE)
        if int(announced) > self._max_body:
            sentence = f"{self._too_large()}."
            return error_response(request_id, 413, ErrorType.TOO_LARGE, sentence, _CLOSE)
        return None

    def _record(self, scope: Scope, method: str, status: int, started: float) -> None:
        route = _route(scope)
        key = scope["state"].get("key")  # its name, set by RequireKey
        self._metrics.response(route, status, key)
        milliseconds = (time.perf_counter() - started) * 1000
        logs.log_request(logs.Answered(method, route, status, milliseconds, key))

    def took(self, more: int, body: int) -> None:
        """Counts bytes of a body that now has ``body`` bytes.

        Raises:
            HTTPException: 413, it is too large; 429, too many bytes are in memory.
        """
        self._bodies += more
        if body > self._max_body:
            raise HTTPException(413, self._too_large(), _CLOSE)
        if self._bodies > self._max_bodies:
            sentence = "The server already has too many bytes of requests in memory"
            raise HTTPException(429, sentence, {"Retry-After": "1", **_CLOSE})

    def _too_large(self) -> str:
        return f"The request is larger than {self._max_body >> 20} MiB"


class _Body:
    """A request's body, counted as it arrives. Its length need not be announced."""

    def __init__(self, context: RequestContext, receive: Receive) -> None:
        self._context = context
        self._receive = receive
        self.received = 0

    async def receive(self) -> Message:
        message = await self._receive()
        if more := len(message.get("body", b"")):
            self.received += more
            self._context.took(more, self.received)
        return message


_CLOSE = {"Connection": "close"}  # what is left of the body is not read


def _as_get_without_range(scope: Scope) -> Scope:
    """HEAD as GET, whose body is then left out, so that every page answers both.

    Ranges are ignored, as HTTP allows: what we serve is small, and Starlette refuses a bad range in
    another shape than ours.
    """
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    headers = [header for header in scope["headers"] if header[0] != b"range"]
    return {**scope, "method": method, "headers": headers}


def _request_id(given: bytes) -> str:
    """The client's own id if it is harmless, else a new one."""
    return given.decode() if _CLIENT_ID.fullmatch(given) else uuid.uuid4().hex


def _route(scope: MutableMapping[str, Any]) -> str:
    """The route's pattern. With the path as a label, each picture would be a time series."""
    return getattr(scope.get("route"), "path", "unknown")
