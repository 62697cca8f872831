"""Which host names and which other origins a browser may use to reach the server."""

from typing import Any

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from models.client.wire import ErrorType
from service.api_keys import is_loopback
from service.errors import error_response
from service.monitoring import logs

# Monitors ask for these by whatever name they know.
_ANY_HOST = frozenset({"/livez", "/readyz"})


class CheckHost:
    """Serves loopback names and the configured ones only.

    Without it, a web page can point a host name of its own at 127.0.0.1 and then read, as its own
    origin, a server that needs no key (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, names: tuple[str, ...]) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _ANY_HOST:
            return await self._app(scope, receive, send)
        name = _host_name(Headers(scope=scope).get("host", ""))
        if is_loopback(name) or name in self._names:
            return await self._app(scope, receive, send)
        sentence = (
            f"This server does not answer to the host name {name[:60]!r}: use localhost, or add "
            "the name to the setting allowed_hosts."
        )
        request_id = scope["state"]["request_id"]
        refusal = error_response(request_id, 403, ErrorType.FORBIDDEN, sentence)
        return await refusal(scope, receive, send)


class AllowOrigins(CORSMiddleware):
    """CORS for the configured origins. Cookies are not among what they may send: keys are."""

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST"),
            allow_headers=("Authorization", "Content-Type", "X-API-Key", "X-Request-ID"),
            expose_headers=("Retry-After", "X-Request-ID"),
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        if answer.status_code == 200:
            return answer
        sentence = "This origin, method or header is not allowed; see the setting cors_origins."
        return error_response(
            logs.request_id.get() or "", 403, ErrorType.FORBIDDEN, sentence, _vary(answer)
        )


def _vary(answer: Response) -> dict[str, Any]:
    return {"Vary": answer.headers["vary"]}


def _host_name(host: str) -> str:
    """``[::1]:8000`` and ``localhost:8000`` without brackets and port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")
