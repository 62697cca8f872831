"""What an evaluation found: the content of ``results.json``, which the report is drawn from."""

from typing import Literal

from pydantic import BaseModel, Field

Against = Literal["direct", "frozen"]
ALL = "all"  # the slice of every query


class Query(BaseModel):
    """One query with what the slices are made by."""

    query: str
    targets: tuple[str, ...]
    language: str
    task: str
    words: int
    gate: Literal["rewritten", "kept"]  # what `rewrite: auto` does with it
    # What the query is said of; left out of the ranking. Only then it is in the file.
    reference: str | None = Field(None, exclude_if=lambda reference: reference is None)
    slices: tuple[str, ...]  # e.g. "language de", "task long", "1-2 words", "gate kept"


class Estimate(BaseModel):
    """A mean over queries with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


class Comparison(BaseModel):
    """One system against another on one slice, query by query, by the main metric."""

    against: Against
    slice: str
    queries: int
    difference: Estimate  # this system less the other
    p: float  # paired randomisation test, two-sided
    p_holm: float  # corrected over the slices
    wins: int
    ties: int
    losses: int


class Cost(BaseModel):
    """What one query costs, on average."""

    prompt_tokens: float  # shared beginnings are counted though the engine computes them once
    written_tokens: float
    llm_seconds: float  # of the engine's time with many queries at once; 0 without an LLM
    searches: float


class System(BaseModel):
    """One way to search; the lists have one entry for each query."""

    name: str
    about: str
    bound: bool = False  # not a rival but what could be reached, as with a perfect query
    texts: list[tuple[str, ...]]  # what was searched; a picture as "image <id>"
    ranks: list[int]  # of the best target in the whole corpus, ties against
    # ... and in the query's group, where the data has groups: only then it is in the file.
    subset_ranks: list[int] | None = Field(None, exclude_if=lambda ranks: ranks is None)
    target_similarity: list[float] | None  # mean cosine of the texts to the best target,
    random_similarity: list[float] | None  # ... to all other pictures; None for another encoder
    metrics: dict[str, dict[str, Estimate]]  # slice -> metric ("R@10", "MRR@10", ...) -> value
    median_rank: dict[str, float]  # slice -> median
    comparisons: list[Comparison]
    cost: Cost


class Loss(BaseModel):
    """A query that a system answers worse than the direct search does."""

    system: str
    query: str
    rewrite: str
    direct_rank: int
    rank: int


class Results(BaseModel):
    """All of it. The main metric is what comparisons are made by."""

    made: str  # ISO date and time, UTC
    title: str  # e.g. "demo, split test"
    about: str
    main_metric: str  # e.g. "R@10"
    corpus: str  # name of the index
    corpus_size: int
    encoder: str
    llm: str
    adapter: str | None
    seed: int
    versions: dict[str, str]
    slices: dict[str, int]  # name -> number of queries, in the order to show
    queries: list[Query]
    systems: list[System]
    worst: list[Loss]
    notes: list[str]
