"""Errors on the wire: one shape everywhere, with a closed list of types."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from models.client.wire import ErrorBody, ErrorType
from models.common.errors import IndexDown
from service.security_headers import SECURITY_HEADERS

log = logging.getLogger("grape")

INDEX_DOWN = "The index does not answer now; try again in a few seconds."
INTERNAL_ERROR = "Internal error; see the server's log."

# What the OpenAPI document says about errors of a route.
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "Bad input, or too many requests"},
    422: {"model": ErrorBody, "description": "The request is not valid for this route"},
    503: {"model": ErrorBody, "description": "Encoder and index are still loading"},
}

_TYPES_BY_STATUS = {
    403: ErrorType.FORBIDDEN,
    404: ErrorType.NOT_FOUND,
    405: ErrorType.METHOD_NOT_ALLOWED,
    413: ErrorType.TOO_LARGE,
    429: ErrorType.OVERLOADED,
}


class ApiError(Exception):
    """Raised anywhere in a request; the client gets it in the one error shape."""

    def __init__(
        self,
        status: int,
        error_type: ErrorType,
        sentence: str,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.error_type = error_type
        self.sentence = sentence
        self.headers = headers


def overloaded(limit: int) -> ApiError:
    return ApiError(
        429,
        ErrorType.OVERLOADED,
        f"The server already has {limit} rewrites in flight; try again in a second.",
        {"Retry-After": "1"},
    )


def too_many_rewrites(rewrites: int, limit: int) -> ApiError:
    return ApiError(
        413,
        ErrorType.TOO_LARGE,
        f"query: {rewrites:,} rewrites in one request are more than {limit:,}; send fewer queries "
        "or a smaller n.",
    )


def error_response(
    request_id: str,
    status: int,
    error_type: ErrorType,
    sentence: str,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    body = ErrorBody(error=sentence, error_type=error_type, request_id=request_id)
    return JSONResponse(body.model_dump(), status_code=status, headers=headers)


def add_error_handlers(app: FastAPI) -> None:
    """Every error of ``app`` answers in the one shape."""
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(IndexDown, _on_index_down)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_unexpected)


async def _on_api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return error_response(
        request.state.request_id, error.status, error.error_type, error.sentence, error.headers
    )


async def _on_index_down(request: Request, error: Exception) -> JSONResponse:
    """The log and /readyz say why: the sentence names an address of ours."""
    log.warning("the index is down: %s", error)
    return error_response(
        request.state.request_id, 503, ErrorType.UNAVAILABLE, INDEX_DOWN, {"Retry-After": "2"}
    )


async def _on_validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return error_response(request.state.request_id, 422, ErrorType.VALIDATION, _first_reason(error))


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    """What the router raises itself: an unknown route, a wrong method, an unreadable body."""
    assert isinstance(error, HTTPException)
    error_type = _TYPES_BY_STATUS.get(error.status_code, ErrorType.VALIDATION)
    headers = dict(error.headers) if error.headers else None
    return error_response(
        request.state.request_id, error.status_code, error_type, f"{error.detail}.", headers
    )


async def _on_unexpected(request: Request, error: Exception) -> JSONResponse:
    """A bug. The log has the traceback; the client gets the request id to quote."""
    request_id = request.state.request_id
    # Starlette answers outside our middleware here, so the headers have to be set again.
    headers = {**SECURITY_HEADERS, "X-Request-ID": request_id}
    return error_response(request_id, 500, ErrorType.INTERNAL, INTERNAL_ERROR, headers)


def _first_reason(error: RequestValidationError) -> str:
    """``query: String should have at least 1 character``, without what the client sent."""
    if isinstance(error.body, bytes) and error.body:  # FastAPI parses nothing that is not JSON
        return "The body is not marked as JSON: send the header `Content-Type: application/json`."
    errors = error.errors()
    # For a field of type "text or list", the errors of the type that was not sent are noise.
    first = next((e for e in errors if not str(e["type"]).endswith("_type")), errors[0])
    # The first part is body, query or path. Pydantic's own names have brackets or dashes.
    parts = [str(part) for part in first["loc"][1:]]
    place = ".".join(part for part in parts if part.isidentifier() or part.isdigit())
    reason = str(first["msg"]).removeprefix("Value error, ")
    return f"{place}: {reason}" if place else reason
