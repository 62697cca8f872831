"""Switches to the index folder's new content. The server also sees it by itself, within seconds."""

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from models.client.wire import ErrorType
from models.common.errors import GrapeError
from service.errors import ERROR_RESPONSES, ApiError
from service.runtime.service import Service

router = APIRouter(prefix="/admin", tags=["admin"])


class IndexServed(BaseModel):
    index: str = Field(description="name and generation, as in the answers of `/search`")
    pictures: int
    switched: bool = Field(description="false if this generation was served already")


@router.post("/index", responses=ERROR_RESPONSES)
async def refresh_index(request: Request) -> IndexServed:
    """Opens what is in the index folder now, warms it up and switches to it.

    Requests in flight finish on the old index. If the new one cannot be opened, nothing changes.
    """
    service: Service = request.app.state.service
    try:
        switched = await service.served_index.refresh()
    except (GrapeError, OSError) as error:
        raise ApiError(409, ErrorType.CONFLICT, str(error)) from error
    searcher = service.searcher
    return IndexServed(
        index=searcher.index_name, pictures=len(searcher.retriever.index), switched=switched
    )
