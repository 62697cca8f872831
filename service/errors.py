"""Errors on the wire: one shape everywhere, and a closed list of types."""

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from models.client.wire import ErrorBody, ErrorType
from service.api.headers import SECURITY_HEADERS

_KINDS = {
    404: ErrorType.NOT_FOUND,
    405: ErrorType.METHOD_NOT_ALLOWED,
    413: ErrorType.TOO_LARGE,
}


class ApiError(Exception):
    """Raised anywhere in a request; becomes the one error shape."""

    def __init__(
        self, status: int, kind: ErrorType, sentence: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.kind = kind
        self.sentence = sentence
        self.headers = headers


def overloaded(limit: int) -> ApiError:
    return ApiError(
        429,
        ErrorType.OVERLOADED,
        f"{limit} queries are at work already; try again in a second.",
        {"Retry-After": "1"},
    )


def error_response(
    request_id: str,
    status: int,
    kind: ErrorType,
    sentence: str,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    body = ErrorBody(error=sentence, error_type=kind, request_id=request_id)
    return JSONResponse(body.model_dump(), status_code=status, headers=headers)


async def on_api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return error_response(
        request.state.request_id, error.status, error.kind, error.sentence, error.headers
    )


async def on_validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return error_response(request.state.request_id, 422, ErrorType.VALIDATION, _first_reason(error))


async def on_http_exception(request: Request, error: Exception) -> JSONResponse:
    """What the router itself raises: no such route, wrong method, a body that cannot be read."""
    assert isinstance(error, HTTPException)
    kind = _KINDS.get(error.status_code, ErrorType.VALIDATION)
    headers = dict(error.headers) if error.headers else None
    return error_response(
        request.state.request_id, error.status_code, kind, f"{error.detail}.", headers
    )


async def on_unexpected(request: Request, error: Exception) -> JSONResponse:
    """A mistake of ours: the log has the traceback, the client gets the id to ask with."""
    request_id = request.state.request_id
    sentence = "Internal error; the log says more."
    # Starlette answers outside of our middleware here, so the headers are set once more.
    headers = {**SECURITY_HEADERS, "X-Request-ID": request_id}
    return error_response(request_id, 500, ErrorType.INTERNAL, sentence, headers)


def _first_reason(error: RequestValidationError) -> str:
    """``query: String should have at least 1 character``, without what the client sent."""
    errors = error.errors()
    # Of a field that may be a text or a list, the kind that was not sent says nothing.
    first = next((e for e in errors if not str(e["type"]).endswith("_type")), errors[0])
    # The first part says body, query or path; names of pydantic's own are in brackets or dashed.
    parts = [str(part) for part in first["loc"][1:]]
    place = ".".join(part for part in parts if part.isidentifier() or part.isdigit())
    reason = str(first["msg"]).removeprefix("Value error, ")
    return f"{place}: {reason}" if place else reason
