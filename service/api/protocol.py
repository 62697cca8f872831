"""HTTP below the application: requests that are slow, malformed or want another protocol."""

import asyncio
import uuid
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from models.client.wire import ErrorBody, ErrorType
from service.security_headers import SECURITY_HEADERS

MAX_HEAD = 64 * 1024  # bytes of request line and headers
HEAD_S = 10.0  # for the head, and until the first request
BODY_S = 20.0  # for the body, and a second more for each of these many bytes
BODY_BYTES_PER_S = 16 * 1024

_UPGRADING = frozenset({b"upgrade", b"http2-settings"})


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol with deadlines, bounded heads, and errors in our shape.

    A request for another protocol, such as ``Upgrade: h2c``, is answered in HTTP/1.1, as RFC 9110
    (7.8) allows. uvicorn would lose its body.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head = 0
        self._body: int | None = None  # bytes so far, while a body is read
        self._timer: asyncio.TimerHandle | None = None
        self._started = self.loop.time()
        self._check_in(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._body is None:
            self._head += len(data)
            if self._timer is None:  # the first bytes of the next request
                self._started = self.loop.time()
                self._check_in(HEAD_S)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        else:
            if self._body is None and self._head > MAX_HEAD:
                self._refuse(431, "The request line and the headers are too large.")

    def _should_upgrade(self) -> bool:
        """Tells uvicorn not to start a request whose head is about to be read again."""
        return True

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Reads the same request again, without what asked for another protocol."""
        method = self.parser.get_method()
        if method == b"CONNECT":  # the parser takes it for an upgrade
            self.send_400_response("This server is not a proxy.")
            return
        version = self.parser.get_http_version().encode()
        head = [method, b" ", self.url, b" HTTP/", version, b"\r\n"]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                value = b", ".join(token for token in tokens if token.lower() not in _UPGRADING)
            if name not in _UPGRADING:
                head += [name, b": ", value, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._head = 0
        self.data_received(b"".join([*head, b"\r\n", rest]))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._body is None:  # nobody reads the trailers behind a body
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._head = 0
        self._body = 0
        self._started = self.loop.time()
        self._check_in(BODY_S)

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._body = (self._body or 0) + len(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._body = None
        self._stop_timer()

    def _check_in(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._check_deadline)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None

    def _check_deadline(self) -> None:
        """Ends the connection unless its client keeps up."""
        allowed = HEAD_S if self._body is None else BODY_S + self._body / BODY_BYTES_PER_S
        left = self._started + allowed - self.loop.time()
        reading_ahead = self._body is None and self._answer_under_way()
        if self.flow.read_paused or reading_ahead:  # it is not the client who is slow
            left = max(left, 1.0)
        if left > 0:
            self._check_in(left)
        elif self._body is None and not self._head:  # nothing was ever asked
            self.transport.close()
        else:
            self._refuse(408, "The request did not arrive in time.")

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, msg)

    def _refuse(self, status: int, sentence: str) -> None:
        """Answers instead of the application, unless an answer is under way, and hangs up."""
        self._stop_timer()
        started = self._answer_under_way() and self.cycle.response_started
        if not started and not self.transport.is_closing():
            self.transport.write(_refusal(status, sentence))
        self.transport.close()

    def _answer_under_way(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete


def _refusal(status: int, sentence: str) -> bytes:
    request_id = uuid.uuid4().hex
    error_type = ErrorType.TOO_LARGE if status == 431 else ErrorType.VALIDATION
    body = ErrorBody(error=sentence, error_type=error_type, request_id=request_id)
    content = body.model_dump_json().encode()
    headers: dict[str, Any] = {
        **SECURITY_HEADERS,
        "X-Request-ID": request_id,
        "Content-Type": "application/json",
        "Content-Length": len(content),
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content
