"""Security headers of every response."""

from starlette.datastructures import MutableHeaders

# Pictures and JSON load nothing; pages set a policy of their own.
_NOTHING = "default-src 'none'; frame-ancestors 'none'"
# Swagger starts from an inline script, and shows nothing that a request brought.
_API_DOCS = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",  # for browsers that do not know frame-ancestors
    "Referrer-Policy": "no-referrer",  # the page's address contains the query
    "Content-Security-Policy": _NOTHING,
}


def add_security_headers(headers: MutableHeaders, path: str) -> None:
    """Adds those that the response does not set itself."""
    if path == "/docs":
        headers.setdefault("Content-Security-Policy", _API_DOCS)
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)
