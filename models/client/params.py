"""Parameters that the client's methods take besides the query."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict

from models.search.options import Fusion, RerankBy, RewriteCount, RewriteMode


class SearchParams(TypedDict, total=False):
    """Parameters of a search; the server chooses what is left out."""

    k: int
    rewrite: RewriteMode
    fusion: Fusion
    n: RewriteCount  # rewrites of each query; "auto": one if the model is sure, up to 16 if not
    compare: bool
    image: str | bytes | Path  # base64, or a file; a query then says what should be different
    image_id: str  # a picture of the index instead of ``image``
    with_reference: bool
    filter: Mapping[str, Any]  # what the metadata of a hit must be; docs/filters.md
    nprobe: int  # cells of a large IVF index to look at; docs/index.md
    ef_search: int  # length of the queue of a large HNSW index
    rerank: bool | int  # put the first hits in a new order: the first 20, or so many
    rerank_by: RerankBy


class RewriteParams(TypedDict, total=False):
    """Parameters of a rewrite; the server chooses what is left out."""

    task: Literal["auto", "multilingual", "long", "composed"]
    image: str | bytes | Path  # base64, or a file, for the task ``composed``
    n: RewriteCount  # rewrites, the most probable first
    temperature: float  # 0 finds the most probable rewrites; above 0 they are drawn


class Document(TypedDict):
    """A candidate of one's own, with an id that comes back with its score."""

    id: str
    text: str


class FeedbackParams(TypedDict, total=False):
    """Which search the feedback is on: one of these at least."""

    query: str
    request_id: str  # of the search's answer


class RerankParams(TypedDict, total=False):
    """Parameters of a reranking; the server chooses what is left out."""

    k: int  # results, the best first; all by default
    rerank_by: RerankBy
