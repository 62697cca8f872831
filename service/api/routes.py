"""The routes for search, rewriting and a picture. For health and /info see health_routes.py."""

import asyncio
import time
from collections.abc import Coroutine
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Request
from fastapi import Query as QueryParameter
from fastapi.responses import Response

from models.client.wire import ErrorType, RewriteResponse, SearchResult, SearchResults
from models.retriever.filters import FilterError, parse_filter
from models.retriever.index import Chosen
from models.retriever.manifest import Effort
from models.retriever.pictures import PictureError
from models.rewriter.protocol import AUTO, Sampling
from models.rewriter.tasks import TASKS
from models.search.options import candidates
from models.search.query import Query, Reference
from service.api.disconnect import unless_gone
from service.api.events import MEDIA_TYPE, event_stream, wants_events
from service.api.images import MAX_SIZE, MIN_SIZE, picture_response
from service.api.requests import RewriteRequest, SearchRequest
from service.errors import ERROR_RESPONSES, ApiError
from service.monitoring.logs import log_queries
from service.reference import Limits, PictureTooLarge, from_index, from_request
from service.runtime.service import Service
from service.search import Searcher, SearchOptions
from service.settings import Settings

Result = TypeVar("Result")

router = APIRouter()


@router.post(
    "/search",
    responses={
        200: {"model": SearchResult | SearchResults, "content": {MEDIA_TYPE: {}}},
        **ERROR_RESPONSES,
    },
)
async def search(body: SearchRequest, request: Request) -> Response:
    """Searches with one query or a list of them, and rewrites each query if needed.

    With `image` or `image_id` alone, finds the pictures most like it. With a query as well, finds
    pictures that differ from it as the query says. The hits leave out that picture itself.

    With `Accept: text/event-stream`, a single query is answered as events: `direct` (the hits of
    the query as typed), `rewrite` (the text so far) and `result` (the full answer).
    """
    service: Service = request.app.state.service
    searcher = service.searcher  # one for all of the request: another index may replace it
    queries = await _queries(body, service, searcher)
    options = _options(body, service.settings)
    if service.feedback and isinstance(body.query, str) and queries[0].reference is None:
        service.feedback.remember(request.state.request_id, body.query)
    if body.filter is not None:
        with service.admit(1):  # it reads up to all values of a field
            options = options._replace(chosen=await _chosen(body.filter, searcher))
    if wants_events(request):
        if isinstance(body.query, list):
            raise _invalid("query: events answer a single query, not a list")
        return _search_as_events(request, searcher, queries[0], options)
    with service.admit(len(queries) * options.admitted_as(service.settings.rerank_passes)):
        if isinstance(body.query, list):
            return await _search_all(request, searcher, queries, options)
        return await _search_one(request, searcher, queries[0], options)


@router.post("/rewrite", responses={200: {"model": RewriteResponse}, **ERROR_RESPONSES})
async def rewrite(body: RewriteRequest, request: Request) -> Response:
    """Rewrites one query or a list of them, including queries in plain English."""
    started = time.perf_counter()
    service: Service = request.app.state.service
    if (body.task == "composed") is not (body.image is not None) and body.task != "auto":
        raise _invalid("image: task 'composed' is about a picture; other tasks take no image")
    searcher = service.searcher
    reference = await _reference(body.image, None, service, searcher)
    task = None if body.task in ("auto", "composed") else TASKS[body.task]
    queries = [Query(text, reference, task) for text in _checked(body.query, service)]
    sampling = AUTO if body.n == "auto" else Sampling(body.n, body.temperature)
    with service.admit(len(queries) * (1 if body.n == "auto" else body.n)):
        results = await unless_gone(
            request,
            _all([searcher.rewrite(query, sampling) for query in queries]),
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
    responses={200: {"content": {"image/webp": {}}}, **ERROR_RESPONSES},
)
def image(
    picture_id: str,
    request: Request,
    size: Annotated[
        int, QueryParameter(ge=MIN_SIZE, le=MAX_SIZE, description="Longer side, in pixels")
    ] = 512,
) -> Response:
    """The picture, always as WebP: an SVG is rendered, never served as it is."""
    service: Service = request.app.state.service
    shared = not service.settings.api_keys
    return picture_response(service.retriever.index, picture_id, size, request, shared)


async def _search_one(
    request: Request, searcher: Searcher, query: Query, options: SearchOptions
) -> Response:
    work = searcher.search(query, options, request.state.request_id)
    # Only the language model takes long enough to be worth stopping when the client leaves.
    quick = options.rewrite == "never" and not options.candidates
    result = await work if quick else await unless_gone(request, work)
    return _json(result.model_dump_json(exclude=_hidden(options)))


async def _search_all(
    request: Request, searcher: Searcher, queries: list[Query], options: SearchOptions
) -> Response:
    request_id = request.state.request_id
    searches = [searcher.search(query, options, request_id) for query in queries]
    results = await unless_gone(request, _all(searches))
    answer = SearchResults.model_construct(results=results)
    return _json(answer.model_dump_json(exclude={"results": {"__all__": _hidden(options)}}))


def _search_as_events(
    request: Request, searcher: Searcher, query: Query, options: SearchOptions
) -> Response:
    service: Service = request.app.state.service
    search = partial(searcher.search, query, options, request.state.request_id)
    return event_stream(
        request,
        search,
        service.admit(options.admitted_as(service.settings.rerank_passes)),
        lambda result: result.model_dump_json(exclude=_hidden(options)),
    )


async def _chosen(given: dict[str, Any], searcher: Searcher) -> Chosen:
    """The pictures that a request's filter leaves."""
    try:
        return await searcher.retriever.select(parse_filter(given))
    except FilterError as error:
        raise ApiError(422, ErrorType.VALIDATION, str(error)) from error


def _options(body: SearchRequest, settings: Settings) -> SearchOptions:
    """The request's options, with the server's defaults filled in."""
    fusion = body.fusion or settings.fusion
    return SearchOptions(
        k=body.k,
        rewrite=body.rewrite or settings.rewrite,
        fusion=fusion,
        n=body.n or settings.n,
        compare=body.compare,
        with_reference=body.with_reference,
        candidates=candidates(body.rerank),
        rerank_by=body.rerank_by,
        effort=_effort(body),
    )


def _effort(body: SearchRequest) -> Effort | None:
    if body.nprobe is None and body.ef_search is None:
        return None
    return Effort(nprobe=body.nprobe, ef_search=body.ef_search)


async def _queries(body: SearchRequest, service: Service, searcher: Searcher) -> list[Query]:
    """Each query, with the picture that the search starts from."""
    if body.image is not None and body.image_id is not None:
        raise _invalid("image: a search starts from one picture; send image or image_id, not both")
    if body.query is None and body.image is None and body.image_id is None:
        raise _invalid("query: a search needs a query, an image or an image_id")
    queries = _checked(body.query, service) if body.query is not None else [None]
    reference = await _reference(body.image, body.image_id, service, searcher)
    return [Query(text, reference) for text in queries]


async def _reference(
    image: str | None, image_id: str | None, service: Service, searcher: Searcher
) -> Reference | None:
    if image_id is not None:
        return await from_index(searcher.retriever, image_id, service.sees_pictures)
    if image is None:
        return None
    limits = Limits(service.settings.max_image_bytes, service.settings.max_image_pixels)
    try:
        with service.admit(1):  # decoding takes memory
            return await from_request(searcher.retriever, image, limits)
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
    limit = service.settings.max_query_chars
    if longest > limit:
        raise _too_large(f"query: {longest:,} characters are more than {limit:,}")
    if service.settings.log_queries:
        log_queries(queries)
    return queries


def _invalid(sentence: str) -> ApiError:
    return ApiError(422, ErrorType.VALIDATION, f"{sentence}.")


def _too_large(sentence: str) -> ApiError:
    return ApiError(413, ErrorType.TOO_LARGE, f"{sentence}.")


def _json(text: str) -> Response:
    return Response(text, media_type="application/json")


def _hidden(options: SearchOptions) -> set[str]:
    return set() if options.compare else {"original_hits"}


async def _all(work: list[Coroutine[Any, Any, Result]]) -> list[Result]:
    return list(await asyncio.gather(*work))
