"""API keys on requests: every path needs one, except the health checks."""

import logging
import math
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from models.client.wire import ErrorType
from service.api.languages import language_of, page_in, strings_of
from service.api.sessions import FailedLogins, Sessions
from service.api_keys import ApiKey, matching_key
from service.errors import error_response

log = logging.getLogger("grape")

OPEN_PATHS = frozenset({"/livez", "/readyz"})  # health checks have no key
LOGIN = "/login"
LOGOUT = "/logout"
ADMIN = "/admin"
COOKIE = "grape_session"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_MAX_FIELD_BYTES = 4096  # of the login form
_LOGIN_HEADERS = {
    # No 'self' for styles: the stylesheet needs a key as well.
    "Content-Security-Policy": (
        "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Vary": "Accept-Language, Cookie",
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
    """Rejects requests without a valid key, or with one that lacks the scope.

    A key comes as a bearer token or in X-API-Key. Browsers send a session cookie instead, which
    the login form sets. This runs before routing, so a new route is protected too.
    """

    def __init__(self, app: ASGIApp, keys: tuple[ApiKey, ...]) -> None:
        self._app = app
        self._keys = keys
        self._by_name = {key.name: key for key in keys}
        self._sessions = Sessions()
        self._failures = FailedLogins()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_open = scope["type"] == "lifespan" or scope.get("path") in OPEN_PATHS
        if is_open or not self._keys:
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            raise RuntimeError(f"GRAPE serves HTTP only, not {scope['type']}")
        request = Request(scope, receive)
        if request.method == "POST" and request.url.path == LOGIN:
            return await (await self._log_in(request))(scope, receive, send)
        if request.method == "POST" and request.url.path == LOGOUT:
            return await self._log_out(request)(scope, receive, send)
        key = self._key(request)
        if key is None:
            return await _unauthorized(request)(scope, receive, send)
        request.state.key = key.name
        if key.scope != "admin" and request.url.path.startswith(ADMIN):
            return await _forbidden(request, key)(scope, receive, send)
        return await self._app(scope, receive, send)

    def _key(self, request: Request) -> ApiKey | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        shown = token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key")
        if shown:
            key = matching_key(self._keys, shown)
            if key is None:
                log.warning("Invalid API key from %s", _address(request))
            return key
        name = self._sessions.key(request.cookies.get(COOKIE, ""))
        return self._by_name[name] if name and _is_from_our_page(request) else None

    async def _log_in(self, request: Request) -> Response:
        address = _address(request)
        if wait_s := math.ceil(self._failures.wait_s(address)):
            headers = {**_LOGIN_HEADERS, "Retry-After": str(wait_s)}
            problem = _login_page(request, "login_wait", str(wait_s))
            return HTMLResponse(problem, 429, headers)
        key = matching_key(self._keys, await _key_in_form(request))
        if key is None:
            self._failures.failed(address)
            log.warning("Failed login from %s", address)
            return HTMLResponse(_login_page(request, "login_wrong"), 401, _LOGIN_HEADERS)
        self._failures.succeeded(address)
        request.state.key = key.name
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(
            COOKIE,
            self._sessions.begin(key.name),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    def _log_out(self, request: Request) -> Response:
        """Ends the session; what the browser has kept of it, the history too, is forgotten."""
        self._sessions.end(request.cookies.get(COOKIE, ""))
        answer = RedirectResponse("/", 303, {"Clear-Site-Data": '"cache", "storage"'})
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
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


def _is_from_our_page(request: Request) -> bool:
    """Whether our own page sent this, or the user opened our address.

    SameSite does not settle it: to a browser, another port of this machine is the same site.
    """
    is_safe = request.method in SAFE_METHODS
    site = request.headers.get("sec-fetch-site")  # browsers set it, and no page can change it
    if site:
        opened = is_safe and request.headers.get("sec-fetch-mode") == "navigate"
        return opened or site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return is_safe or origin is None or _host_of(origin) == request.headers.get("host")


def _host_of(origin: str) -> str:
    return origin.partition("://")[2]


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _forbidden(request: Request, key: ApiKey) -> Response:
    sentence = (
        f"The API key {key.name!r} has the scope 'search', and this route requires 'admin': give "
        "the server a key as NAME:admin:KEY."
    )
    return error_response(request.state.request_id, 403, ErrorType.FORBIDDEN, sentence)


def _unauthorized(request: Request) -> Response:
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(_login_page(request), 401, _LOGIN_HEADERS)
    sentence = (
        "This server requires an API key: send `Authorization: Bearer KEY` or `X-API-Key: KEY`, "
        "or log in at / with a browser."
    )
    return error_response(
        request.state.request_id, 401, ErrorType.UNAUTHORIZED, sentence,
        {"WWW-Authenticate": "Bearer"},
    )  # fmt: skip


def _login_page(request: Request, problem: str = "", seconds: str = "") -> str:
    """The login form in the reader's language.

    Args:
        problem: key of the string that says what went wrong.
    """
    language = language_of(request)
    told = strings_of(language)[problem].replace("{seconds}", seconds) if problem else ""
    return page_in("login.html", language).replace("{problem}", told)
