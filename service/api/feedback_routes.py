"""The route for feedback on hits. It exists only with `--feedback FOLDER`."""

from datetime import UTC, datetime
from typing import Annotated, Self

from fastapi import APIRouter, Request
from pydantic import Field, StringConstraints, model_validator

from models.client.marks import Mark, MarkKind
from models.client.wire import ErrorType, FeedbackKept
from models.search.normalise import normalise
from service.api.requests import Query, StrictRequest
from service.errors import ERROR_RESPONSES, ApiError
from service.runtime.service import Service

router = APIRouter()

Name = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class FeedbackRequest(StrictRequest):
    query: Query | None = Field(
        None, description="What was searched for; may be left out if `request_id` is given"
    )
    request_id: Name | None = Field(None, description="`request_id` of the search's answer")
    id: Name = Field(description="The picture")
    relevant: bool = Field(description="Whether it is what was looked for")
    kind: MarkKind = Field(
        "marked", description="`opened` for a picture that was only looked at more closely"
    )

    @model_validator(mode="after")
    def _names_a_search(self) -> Self:
        if self.query is None and self.request_id is None:
            raise ValueError("feedback needs the query, or the request_id of the search")
        return self


@router.post("/feedback", status_code=202, responses=ERROR_RESPONSES)
async def feedback(body: FeedbackRequest, request: Request) -> FeedbackKept:
    """Keeps whether a picture is what was looked for, on this server's disk.

    `grape data from-feedback` makes training rows of it.
    """
    service: Service = request.app.state.service
    kept = service.feedback
    assert kept, "the route exists only with a folder"
    query = body.query or (body.request_id and kept.query_of(body.request_id))
    if not query:
        raise ApiError(
            404,
            ErrorType.NOT_FOUND,
            "request_id: no such search is remembered; send the query instead.",
        )
    limit = service.settings.max_query_chars
    if len(query) > limit:
        sentence = f"query: {len(query):,} characters are more than {limit:,}."
        raise ApiError(413, ErrorType.TOO_LARGE, sentence)
    searcher = service.searcher
    retriever = searcher.retriever
    if await retriever.look_up(retriever.index.position, body.id) is None:
        raise ApiError(404, ErrorType.NOT_FOUND, f"id: there is no picture {body.id!r}.")
    await kept.add(
        Mark(
            time=datetime.now(UTC),
            query=normalise(query) or query,
            id=body.id,
            relevant=body.relevant,
            kind=body.kind,
            request_id=body.request_id,
            index=searcher.index_name,
        )
    )
    return FeedbackKept(request_id=request.state.request_id)
