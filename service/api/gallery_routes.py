"""The routes for looking around in an index: its pictures page by page, and what to filter by."""

import asyncio
import math
from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi import Query as QueryParameter

from models.client.wire import ErrorType, Facets, ListedPicture, PictureList
from models.retriever.filters import FilterError, parse_filter_text
from models.retriever.index import Chosen
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
    order: Annotated[
        Literal["index", "mixed"],
        QueryParameter(description="As indexed, or spread so that each page is a sample of all"),
    ] = "index",
    filter: Annotated[  # as in POST /search
        str | None,
        QueryParameter(
            description='Only pictures with certain metadata, as JSON: `{"year": {"gte": 2024}}`'
        ),
    ] = None,
) -> PictureList:
    """Lists the pictures of the index, page by page, always in the same order."""
    service: Service = request.app.state.service
    searcher = service.searcher  # one for all of the request: another index may replace it
    retriever, chosen = searcher.retriever, None
    if filter is not None:
        with service.admit(1):  # it reads up to all values of a field
            chosen = await _chosen(filter, retriever)
    index = retriever.index
    listed = await asyncio.to_thread(index.listed, chosen)
    total = len(listed)
    places: Sequence[int] = range(offset, min(offset + limit, total))
    if order == "mixed":
        stride = _stride(total)
        places = [place * stride % total for place in places]
    positions = [int(listed[place]) for place in places]
    found = await asyncio.to_thread(index.items.found, positions)
    items = [found[position] for position in positions if position in found]
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


def _stride(total: int) -> int:
    """A step that reaches each of so many places once, and neighbours long after one another.

    Near the golden section of them: Knuth, The Art of Computer Programming 3, 6.4, theorem S.
    """
    stride = round(total * (math.sqrt(5) - 1) / 2)
    return next(step for step in range(max(stride, 1), 2 * total + 2) if math.gcd(step, total) == 1)


async def _chosen(given: str, retriever: BatchedRetriever) -> Chosen:
    try:
        return await retriever.select(parse_filter_text(given))
    except FilterError as error:
        raise ApiError(422, ErrorType.VALIDATION, str(error)) from error
