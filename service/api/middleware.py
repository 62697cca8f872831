"""What every request gets: an id, a limit on its body, and a log line and a count at the end."""

import re
import time
import uuid
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.client.wire import ErrorType
from service.errors import error_response
from service.monitoring import logs
from service.monitoring.metrics import Metrics
from service.security_headers import add_security_headers

_CLIENT_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RequestContext:
    """Plain ASGI: Starlette's own middleware base costs more than a search of the demo gallery."""

    def __init__(self, app: ASGIApp, metrics: Metrics, max_body: int) -> None:
        self._app = app
        self._metrics = metrics
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = dict(scope["headers"])
        request_id = _request_id(headers.get(b"x-request-id", b""))
        scope.setdefault("state", {})["request_id"] = request_id
        logs.request_id.set(request_id)
        started = time.perf_counter()
        answered = False

        def record(status: int) -> None:
            nonlocal answered
            answered = True
            self._record(scope, status, started)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = MutableHeaders(raw=list(message["headers"]))
                own["X-Request-ID"] = request_id
                add_security_headers(own, scope["path"])
                message["headers"] = own.raw
                record(message["status"])
            await send(message)

        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._max_body:
            refusal = error_response(
                request_id, 413, ErrorType.TOO_LARGE, self._too_large(), {"Connection": "close"}
            )
            return await refusal(scope, receive, send_with_id)
        try:
            return await self._app(scope, self._limited(receive), send_with_id)
        except Exception:  # Starlette answers it outside this middleware
            if not answered:
                record(500)
            raise

    def _record(self, scope: Scope, status: int, started: float) -> None:
        route = _route(scope)
        self._metrics.response(route, status)
        milliseconds = (time.perf_counter() - started) * 1000
        logs.log_request(scope["method"], route, status, milliseconds)

    def _limited(self, receive: Receive) -> Receive:
        """Limits a body that did not announce its length."""
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body:
                raise HTTPException(413, self._too_large().rstrip("."))
            return message

        return limited

    def _too_large(self) -> str:
        return f"The request is larger than {self._max_body >> 20} MiB."


def _request_id(given: bytes) -> str:
    """The client's own id if it is harmless, else a new one."""
    return given.decode() if _CLIENT_ID.fullmatch(given) else uuid.uuid4().hex


def _route(scope: MutableMapping[str, Any]) -> str:
    """The route's pattern. With the path as a label, each picture would be a time series."""
    return getattr(scope.get("route"), "path", "unknown")
