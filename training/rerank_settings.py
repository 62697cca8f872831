"""The settings of `grape train` for a reranker."""

from typing import Annotated, Literal

from pydantic import Field

from models.search.options import CANDIDATES, ComparedBy
from training.retriever_settings import RetrieverSettings

RATED = {"ndcg": 1.0, "recall_at_k": 0.5, "distribution": 0.2, "format": 0.2}  # rewards


class RerankSettings(RetrieverSettings):
    """What a reranker learns to tell apart."""

    task: Literal["rewrite", "rerank"] = Field(
        "rewrite", description="what the adapter does: rewrite queries, or rerank what they find"
    )
    rerank_by: ComparedBy = Field(
        "likelihood",
        description="how a reranker scores: by the likelihood of the query after each caption, or "
        "by rating captions in groups",
    )
    rerank_data: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {},
        description="data sets that a reranker learns from besides 'data', each with its number of "
        "training queries of a task",
    )
    candidates: int = Field(
        CANDIDATES, ge=2, le=100, description="pictures that the search finds for a query"
    )
    candidates_from: str = Field(
        "auto",
        description="adapter whose rewrites are searched for the candidates: a folder; 'auto': the "
        "demo's own, if both model and gallery are the demo's; 'none': the base model's rewrites",
    )
    contrast: int = Field(
        6,
        ge=2,
        le=64,
        description="captions that a query is scored after in a step, the right one included",
    )
    own_likelihood: float = Field(
        0.1,
        ge=0,
        description="weight of the query's likelihood after the right caption, for each token, "
        "beside telling the captions apart",
    )
