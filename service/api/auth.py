"""API keys on requests: every path needs one, except the health checks."""

import hashlib
import hmac
import secrets
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from models.client.wire import ErrorType
from service.api_keys import position_in
from service.errors import error_response

OPEN_PATHS = frozenset({"/livez", "/readyz"})  # health checks have no key
LOGIN = "/login"
COOKIE = "grape_session"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_MAX_FIELD_BYTES = 4096  # of the login form
_LOGIN_PAGE = Path(__file__).parent.parent / "page" / "login.html"
_LOGIN_HEADERS = {
    # No 'self' for styles: the stylesheet needs a key as well.
    "Content-Security-Policy": (
        "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "WWW-Authenticate": "Bearer",
}
_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
    "api_key": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "`X-API-Key: KEY`",
    },
}


class RequireKey:
    """Rejects requests without a valid key.

    A key comes as a bearer token or in X-API-Key. Browsers send a session cookie instead, which
    the login form sets. This runs before routing, so a new route is protected too.
    """

    def __init__(self, app: ASGIApp, keys: tuple[str, ...]) -> None:
        self._app = app
        self._keys = keys
        # Session tokens are not keys. They derive from a secret of this process and expire with it.
        secret = secrets.token_bytes(32)
        self._sessions = tuple(
            hmac.new(secret, key.encode(), hashlib.sha256).hexdigest() for key in keys
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_open = scope["type"] == "lifespan" or scope.get("path") in OPEN_PATHS
        if is_open or not self._keys:
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            raise RuntimeError(f"GRAPE serves HTTP only, not {scope['type']}")
        request = Request(scope, receive)
        if request.url.path == LOGIN and request.method == "POST":
            answer = await self._log_in(request)
        elif self._is_authorized(request):
            return await self._app(scope, receive, send)
        else:
            answer = _unauthorized(request)
        return await answer(scope, receive, send)

    def _is_authorized(self, request: Request) -> bool:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key")
        if key:
            return self._position(key) is not None
        session = request.cookies.get(COOKIE, "")
        return position_in(self._sessions, session) is not None and _is_same_origin(request)

    def _position(self, key: str) -> int | None:
        digest = hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
        return position_in(self._keys, digest)

    async def _log_in(self, request: Request) -> Response:
        position = self._position(await _key_in_form(request))
        if position is None:
            return HTMLResponse(_login_page("Invalid API key."), 401, _LOGIN_HEADERS)
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(
            COOKIE,
            self._sessions[position],
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer


def describe_keys(openapi: dict[str, Any]) -> None:
    """Adds the security schemes to an OpenAPI document, so that `/docs` can send a key.

    Either scheme is enough. The health checks name none.
    """
    openapi.setdefault("components", {})["securitySchemes"] = _SECURITY_SCHEMES
    for path, operations in openapi["paths"].items():
        if path not in OPEN_PATHS:
            for operation in operations.values():
                operation["security"] = [{name: []} for name in _SECURITY_SCHEMES]


async def _key_in_form(request: Request) -> str:
    """The login form's key, or an empty string if the body is too large or not such a form."""
    try:
        limits = {"max_files": 0, "max_fields": 4, "max_part_size": _MAX_FIELD_BYTES}
        async with request.form(**limits) as form:
            key = form.get("key")
    except (HTTPException, ValueError):  # ValueError: the client's charset cannot decode it
        return ""
    return key.strip() if isinstance(key, str) else ""


def _is_same_origin(request: Request) -> bool:
    """Whether our own page sent this.

    SameSite does not settle it: to a browser, another port of this machine is the same site.
    """
    origin = request.headers.get("origin")
    if request.method in SAFE_METHODS or origin is None:
        return True
    return origin.partition("://")[2] == request.headers.get("host")


def _unauthorized(request: Request) -> Response:
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(_login_page(""), 401, _LOGIN_HEADERS)
    sentence = (
        "This server requires an API key: send `Authorization: Bearer KEY` or `X-API-Key: KEY`, "
        "or log in at / with a browser."
    )
    return error_response(
        request.state.request_id, 401, ErrorType.UNAUTHORIZED, sentence,
        {"WWW-Authenticate": "Bearer"},
    )  # fmt: skip


def _login_page(problem: str) -> str:
    """The login form. ``problem`` is a sentence of our own, never the client's text."""
    return _LOGIN_PAGE.read_text(encoding="utf-8").replace("{problem}", problem)
