"""Who may ask: every path but the health checks is shut to whoever shows no key."""

import hashlib
import hmac
import secrets
from pathlib import Path
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from models.client.wire import ErrorType
from service.api_keys import position_in
from service.errors import error_response

OPEN_PATHS = frozenset({"/livez", "/readyz"})  # a health check has no key
LOGIN = "/login"
COOKIE = "grape_session"
MAX_FORM = 4096  # bytes of a login
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_LOGIN_PAGE = Path(__file__).parent.parent / "page" / "login.html"
_LOGIN_HEADERS = {
    # Without 'self' for styles: they would need a key.
    "Content-Security-Policy": (
        "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "WWW-Authenticate": "Bearer",
}


class RequireKey:
    """Lets a request through that shows a key: as a bearer token, in X-API-Key, or, for the page,
    in a session cookie that its login form sets. It stands before the routes, so that a new route
    is shut as well.
    """

    def __init__(self, app: ASGIApp, keys: tuple[str, ...]) -> None:
        self._app = app
        self._keys = keys
        # A session is a secret of this process and no key: it ends when the server does.
        secret = secrets.token_bytes(32)
        self._sessions = tuple(
            hmac.new(secret, key.encode(), hashlib.sha256).hexdigest() for key in keys
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_open = scope["type"] == "lifespan" or scope.get("path") in OPEN_PATHS
        if is_open or not self._keys:
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            raise RuntimeError("GRAPE speaks HTTP alone; nothing else is let in")
        request = Request(scope, receive)
        if request.url.path == LOGIN and request.method == "POST":
            answer = await self._log_in(request)
        elif self._may_pass(request):
            return await self._app(scope, receive, send)
        else:
            answer = _refusal(request)
        return await answer(scope, receive, send)

    def _may_pass(self, request: Request) -> bool:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        shown = token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key")
        if shown:
            return self._position(shown) is not None
        session = request.cookies.get(COOKIE, "")
        return position_in(self._sessions, session) is not None and _is_our_page(request)

    def _position(self, key: str) -> int | None:
        return position_in(self._keys, hashlib.sha256(key.encode()).hexdigest())

    async def _log_in(self, request: Request) -> Response:
        form = b""
        async for chunk in request.stream():
            form += chunk
            if len(form) > MAX_FORM:
                form = b""
                break
        key = parse_qs(form.decode("latin-1")).get("key", [""])[0].strip()
        position = self._position(key)
        if position is None:
            return HTMLResponse(_login_page("That is no key of this server."), 401, _LOGIN_HEADERS)
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(
            COOKIE,
            self._sessions[position],
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer


def _is_our_page(request: Request) -> bool:
    """Whether a request that a browser adds the cookie to comes from our own page: another port of
    the same machine counts as the same site.
    """
    origin = request.headers.get("origin")
    if request.method in SAFE_METHODS or origin is None:
        return True
    return origin.partition("://")[2] == request.headers.get("host")


def _refusal(request: Request) -> Response:
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(_login_page(""), 401, _LOGIN_HEADERS)
    sentence = (
        "This server needs an API key, as `Authorization: Bearer KEY` or `X-API-Key: KEY`; "
        "a browser is asked for it at /."
    )
    return error_response(
        request.state.request_id, 401, ErrorType.UNAUTHORIZED, sentence,
        {"WWW-Authenticate": "Bearer"},
    )  # fmt: skip


def _login_page(problem: str) -> str:
    """The form; ``problem`` is a sentence of ours."""
    return _LOGIN_PAGE.read_text(encoding="utf-8").replace("{problem}", problem)
