"""The routes for looking around in an index: its pictures page by page, and what to filter by."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi import Query as QueryParameter

from models.client.wire import ErrorType, Facets, ListedPicture, PictureList
from models.retriever.filters import FilterError, parse_filter_text
from models.retriever.selection import Selection
from service.errors import ERROR_RESPONSES, ApiError
from service.hits import picture_url
from service.retrieval import BatchedRetriever
from service.runtime.service import Service

router = APIRouter()

MOST = 500  # pictures in one answer
_LAST = 2**53  # what every JSON reader holds


@router.get("/images", responses=ERROR_RESPONSES)
async def images(
    request: Request,
    offset: Annotated[int, QueryParameter(ge=0, le=_LAST, description="Pictures to pass over")] = 0,
    limit: Annotated[
        int, QueryParameter(ge=1, le=MOST, description="Maximum number of pictures")
    ] = 100,
    filter: Annotated[  # as in POST /search
        str | None,
        QueryParameter(
            description='Only pictures with certain metadata, as JSON: `{"year": {"gte": 2024}}`'
        ),
    ] = None,
) -> PictureList:
    """Lists the pictures of the index, page by page, in the order in which they were indexed."""
    service: Service = request.app.state.service
    searcher = service.searcher  # one for all of the request: another index may replace it
    retriever, chosen = searcher.retriever, None
    if filter is not None:
        with service.admit(1):  # it reads up to all values of a field
            chosen = await _chosen(filter, retriever)
    index = retriever.index
    total = len(index) if chosen is None else chosen.count
    places = range(offset, min(offset + limit, total))
    positions = places if chosen is None else chosen.positions[places.start : places.stop].tolist()
    items = await asyncio.to_thread(index.items.at, positions)
    return PictureList(
        pictures=[
            ListedPicture(id=item.id, url=picture_url(item.id, item.record), metadata=item.record)
            for item in items
        ],
        total=total,
        offset=offset,
        index=searcher.index_name,
    )


@router.get("/facets", responses=ERROR_RESPONSES)
async def facets(request: Request) -> Facets:
    """The fields to filter by, with their values and how many pictures have each.

    Fields of which nearly every picture has a value of its own, such as names, are left out.
    """
    service: Service = request.app.state.service
    searcher = service.searcher
    with service.admit(1):  # the first answer for an index reads up to all values
        found = await searcher.retriever.facets()
    return Facets(facets=found, index=searcher.index_name)


async def _chosen(given: str, retriever: BatchedRetriever) -> Selection:
    try:
        return await retriever.select(parse_filter_text(given))
    except FilterError as error:
        raise ApiError(422, ErrorType.VALIDATION, str(error)) from error
