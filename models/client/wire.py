"""The server's answers as they go over the wire: the service writes them, the client reads them."""

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.rewriter.tasks import TaskName
from models.search.options import ComparedBy, Fusion, RewriteMode

Status = Literal["rewritten", "kept", "fallback"]
RerankStatus = Literal["reranked", "kept", "fallback"]


class ErrorType(StrEnum):
    """Every value of ``error_type``."""

    VALIDATION = "validation"  # the request does not match what the route takes
    UNAUTHORIZED = "unauthorized"  # no API key, or an invalid one
    FORBIDDEN = "forbidden"  # a valid API key without the scope, or a host name that is not ours
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"  # not possible in the server's current state
    ADAPTER_REFUSED = "adapter_refused"  # it does not fit, or is not proven to work
    METHOD_NOT_ALLOWED = "method_not_allowed"
    TOO_LARGE = "too_large"
    OVERLOADED = "overloaded"  # try again after Retry-After seconds
    UNAVAILABLE = "unavailable"  # a component that the request needs is not ready
    INTERNAL = "internal"


class ErrorBody(BaseModel):
    """The body of every answer with status 400 or above."""

    error: str
    error_type: ErrorType
    request_id: str


class RewriteText(BaseModel):
    text: str
    probability: float | None = Field(
        None, description="of this rewrite, as the language model gives it; null if it hides it"
    )
    clip_tokens: int = Field(description="encoder tokens, start and end tokens included")
    truncated: bool = Field(description="whether the encoder cuts off its end")


class RewriteResult(BaseModel):
    query: str
    task: TaskName
    status: Status
    reason: str
    rewrites: list[RewriteText]
    parts: int = Field(
        1,
        description="how many parts a long query was split into; `rewrites` then has one for each "
        "part, in order",
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
        description="the texts searched for: the rewrites, or the query itself"
    )
    probabilities: list[float | None] = Field(
        description="of each text, as the language model gives it; null for a text that is not a "
        "rewrite"
    )
    clip_tokens: list[int] = Field(description="encoder tokens of each text")
    truncated: bool = Field(description="whether the encoder cut off the end of any text")
    parts: int = Field(
        description="how many parts a query was split into because it was too long for the encoder "
        "or the language model"
    )
    fusion: Fusion = Field(description="how the texts were combined; 'original' without a rewrite")
    query_weight: float = Field(description="share of the query as typed in a mixture")
    tau: float = Field(description="temperature of the softmax that makes a cosine a probability")
    adapter: str | None


class SearchHit(BaseModel):
    id: str
    rank: int
    score: float = Field(
        description="p(picture | query), the probability that this is the picture looked for. With "
        "'rrf' it is the sum of reciprocal ranks. With 'interleave' each hit keeps the probability "
        "in its own search, so scores do not fall with the rank"
    )
    cosine: float = Field(description="similarity in the first search of `found_by`")
    url: str | None
    metadata: dict[str, Any]
    found_by: list[str] = Field(
        description="the searches that found it: 'query', 'words', 'picture', 'picture + query', "
        "'rewrite 1' (the first of `rewrite.texts`), ..., or 'mean'; in a mixture, the one that "
        "contributed most to the score"
    )
    rerank_score: float | None = Field(
        None,
        exclude_if=lambda found: found is None,
        description="what a reranked hit is ordered by: log `score` + weight x the language "
        "model's score; absent from a hit that kept its place",
    )
    rank_before: int | None = Field(
        None,
        exclude_if=lambda found: found is None,
        description="`rank` before reranking; absent if the hit was no candidate",
    )


class SearchTimings(BaseModel):
    rewrite: float
    encode: float
    search: float
    rerank: float | None = Field(None, exclude_if=lambda found: found is None)
    total: float


class Reranking(BaseModel):
    """What became of the first hits."""

    status: RerankStatus = Field(
        description="'reranked'; 'kept' if there was nothing to compare; 'fallback' if the "
        "language model failed. With the last two, the hits are in the order of the search"
    )
    reason: str
    by: ComparedBy = Field(description="what compared the hits: 'likelihood' or 'group'")
    adapter: str | None = Field(description="that gave the scores; null for the base model")
    candidates: int = Field(description="hits that were to be reranked")
    groups: int = Field(description="groups that they were compared in; 0 by 'likelihood'")
    seen: bool = Field(
        False, description="whether the model looked at the pictures, and not at their captions"
    )


class SearchResult(BaseModel):
    query: str | None = Field(description="null for a search by a picture alone")
    rewrite: SearchedTexts
    hits: list[SearchHit]
    original_hits: list[SearchHit] | None = None
    rerank: Reranking | None = Field(
        None,
        exclude_if=lambda found: found is None,
        description="what became of the first hits; absent if the request did not ask for it",
    )
    confident: bool = Field(
        description="whether the first hit is more likely right than wrong, by its score"
    )
    timings_ms: SearchTimings
    index: str = Field(description="name and generation of the index that was searched")
    degraded: bool
    request_id: str


class DirectHits(BaseModel):
    """A server-sent event: the hits of the query as typed, before any rewriting."""

    hits: list[SearchHit]


class PartialRewrite(BaseModel):
    """A server-sent event: the rewrite generated so far."""

    text: str


class SearchResults(BaseModel):
    results: list[SearchResult]


class RankedDocument(BaseModel):
    index: int = Field(description="place of the document in the request, from 0")
    id: str | None = Field(description="its id, if the request gives it one")
    relevance_score: float | None = Field(
        description="the probability that it is the one meant, if one of the documents is; null "
        "for a document without a score"
    )


class RerankResponse(BaseModel):
    results: list[RankedDocument] = Field(description="the best first")
    rerank: Reranking
    timings_ms: dict[str, float]
    request_id: str


class ListedPicture(BaseModel):
    id: str
    url: str | None
    metadata: dict[str, Any]


class PictureList(BaseModel):
    """A page of the pictures of an index."""

    pictures: list[ListedPicture]
    total: int = Field(description="pictures on all pages")
    offset: int
    index: str = Field(description="name and generation, as in the answers of `/search`")


class FacetValue(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    value: str | int | float | bool
    count: int = Field(description="pictures with this value")


class Facet(BaseModel):
    """A field to filter by: a few values, or the range of many."""

    model_config = ConfigDict(from_attributes=True)

    field: str
    kind: Literal["bool", "date", "number", "object", "text"]
    values: list[FacetValue] = Field(description="the most frequent first; empty for a range")
    more: int = Field(description="values that are not listed")
    low: str | int | float | None = Field(description="of a range; of dates the day, in ISO 8601")
    high: str | int | float | None


class Facets(BaseModel):
    facets: list[Facet]
    index: str


class FeedbackKept(BaseModel):
    request_id: str


class PartHealth(BaseModel):
    ready: bool
    reason: str


class Readiness(BaseModel):
    ready: bool
    rewriter: PartHealth
    encoder: PartHealth
    index: PartHealth
    pictures: PartHealth = PartHealth(ready=True, reason="")  # older servers do not say


class Info(BaseModel):
    """The answer to ``GET /info``; a newer server may return more."""

    model_config = ConfigDict(extra="allow")

    versions: dict[str, str]
    llm: str
    llm_endpoint: str | None
    adapter: str | None
    rewrite: RewriteMode
    fusion: Fusion
    feedback: bool = Field(False, description="whether the server keeps feedback on hits")
    clip_token_limit: int
    index: dict[str, Any] = Field(description="the index's manifest")
    limits: dict[str, int]
