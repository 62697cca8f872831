"""What the server answers, as it goes over the wire: the service writes it, the client reads it."""

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, Field

from models.rewriter.tasks import TaskName
from models.search.options import Fusion

Status = Literal["rewritten", "kept", "fallback"]


class ErrorType(StrEnum):
    """All that ``error_type`` can be."""

    VALIDATION = "validation"  # the request is not what the route takes
    NOT_AVAILABLE = "not_available"  # asked for correctly, but this version cannot do it yet
    UNAUTHORIZED = "unauthorized"  # no API key, or a wrong one
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"  # not while the server is in the state that it is in
    ADAPTER_REFUSED = "adapter_refused"  # it does not fit, or nothing proves it
    METHOD_NOT_ALLOWED = "method_not_allowed"
    TOO_LARGE = "too_large"
    OVERLOADED = "overloaded"  # come back after Retry-After seconds
    UNAVAILABLE = "unavailable"  # a part that the request needs is not ready
    INTERNAL = "internal"


class ErrorBody(BaseModel):
    """What every answer of 400 and above looks like."""

    error: str
    error_type: ErrorType
    request_id: str


class RewriteText(BaseModel):
    text: str
    clip_tokens: int = Field(description="the encoder's tokens, marks included")
    truncated: bool = Field(description="whether the encoder would not read it to its end")


class RewriteResult(BaseModel):
    query: str
    task: TaskName
    status: Status
    reason: str
    rewrites: list[RewriteText]
    parts: int = Field(
        1,
        description="how many parts a long query was cut into; the rewrites are then those of the "
        "parts, in turn",
    )
    adapter: str | None


class RewriteResponse(BaseModel):
    results: list[RewriteResult]
    timings_ms: dict[str, float]
    request_id: str


class SearchedTexts(BaseModel):
    status: Status
    reason: str
    texts: list[str] = Field(
        description="what was searched with instead of the query, or the query"
    )
    clip_tokens: list[int] = Field(description="the encoder's tokens of each text")
    truncated: bool = Field(description="whether any text was longer than the encoder reads")
    parts: int = Field(
        description="how many parts a query was cut into that was longer than what reads it"
    )
    fusion: Fusion = Field(description="how they were searched; 'original' without a rewrite")
    adapter: str | None


class SearchHit(BaseModel):
    id: str
    rank: int
    score: float = Field(
        description="similarity in the search that found it; of lists that were fused by 'rrf' the "
        "sum of reciprocal ranks. Lists that were taken in turns ('interleave') keep their own: "
        "the scores do not fall with the rank"
    )
    url: str | None
    metadata: dict[str, Any]
    found_by: list[str] = Field(
        description="the searches that found it: 'query', 'words', 'picture', 'picture + query', "
        "'rewrite 1', ..., or 'mean'"
    )


class SearchTimings(BaseModel):
    rewrite: float
    encode: float
    search: float
    total: float


class SearchResult(BaseModel):
    query: str | None = Field(description="None where a picture alone was searched with")
    rewrite: SearchedTexts
    hits: list[SearchHit]
    original_hits: list[SearchHit] | None = None
    timings_ms: SearchTimings
    index: str
    degraded: bool
    request_id: str


class DirectHits(BaseModel):
    """An event: what the query finds as typed, before any rewriting."""

    hits: list[SearchHit]


class PartialRewrite(BaseModel):
    """An event: the rewrite as far as it is written."""

    text: str


class SearchResults(BaseModel):
    results: list[SearchResult]


class PartHealth(BaseModel):
    ready: bool
    reason: str


class Readiness(BaseModel):
    ready: bool
    rewriter: PartHealth
    encoder: PartHealth
    index: PartHealth
