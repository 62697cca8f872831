"""What goes over the wire; the limits that a setting decides are checked in the routes."""

import base64
import binascii
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from models.rewriter.tasks import TaskName
from models.search.fusion import Fusion
from service.settings import RewriteMode

Status = Literal["rewritten", "kept", "fallback"]
TaskChoice = Literal["auto", "multilingual", "long", "composed"]


def _printable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("a NUL character is not text")
    return text


def _base64(text: str) -> str:
    """Bare base64 or a ``data:`` URI. An address is refused: the server fetches nothing."""
    data = text
    if text.startswith("data:"):
        head, separator, data = text.partition(",")
        if not separator or not head.endswith(";base64"):
            raise ValueError("a data: URI must be base64, as in data:image/png;base64,...")
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(
            "image must be base64 or a data: URI; addresses are not fetched"
        ) from error
    return text


Query = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1),
    AfterValidator(_printable),
]
Queries = Query | Annotated[list[Query], Field(min_length=1)]
Base64Image = Annotated[str, AfterValidator(_base64)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RewriteRequest(_Request):
    query: Queries = Field(description="one query or a list of them", examples=["ein roter Drache"])
    image: Base64Image | None = Field(
        None, description="the picture that a query of task 'composed' is about"
    )
    task: TaskChoice = "auto"
    n: int = Field(
        1, ge=1, le=16, description="rewrites to draw; more than one needs a temperature"
    )
    temperature: float = Field(0.0, ge=0, le=2, description="0 gives the same answer every time")


class SearchRequest(_Request):
    query: Queries | None = Field(
        None, description="one query or a list of them", examples=["ein roter Drache"]
    )
    image: Base64Image | None = Field(
        None, description="a picture to search with; a query then says what is to be different"
    )
    image_id: str | None = Field(None, description="the same, for a picture of the index")
    with_reference: bool = Field(False, description="leave that picture among the hits")
    k: int = Field(10, ge=1, le=1000, description="most pictures to return")
    rewrite: RewriteMode | None = Field(None, description="the server's default when left out")
    fusion: Fusion | None = Field(None, description="the server's default when left out")
    n: int | None = Field(
        None,
        ge=1,
        le=16,
        description="rewrites to search with, drawn with temperature 1; left out, 4 for "
        "self-consistency and 1 for all else",
    )
    compare: bool = Field(False, description="return the original query's pictures too")
    filter: dict[str, Any] | None = Field(None, description="not available yet")
    rerank: bool = Field(False, description="not available yet")


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
