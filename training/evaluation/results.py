"""The results of an evaluation: the content of ``results.json``, and the input of the report."""

from typing import Literal

from pydantic import BaseModel, Field

Against = Literal["direct", "frozen", "tuned"]
ALL = "all"  # the slice of every query
MEAN_OF_LANGUAGES = "mean of languages"  # macro-average, without English, which the encoder knows


class Query(BaseModel):
    """One query with the properties that slices are made of."""

    query: str
    targets: tuple[str, ...]
    language: str
    task: str
    words: int
    gate: Literal["rewritten", "kept"]  # what `rewrite: auto` does with it
    # The picture that the query refers to; left out of the ranking. Not in the file if None.
    reference: str | None = Field(None, exclude_if=lambda reference: reference is None)
    slices: tuple[str, ...]  # e.g. "language de", "task long", "1-2 words", "gate kept"


class Estimate(BaseModel):
    """A mean over queries, with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


class Comparison(BaseModel):
    """One system against another on one slice, query by query, by the main metric."""

    against: Against
    slice: str
    queries: int
    difference: Estimate  # this system minus the other
    p: float  # paired randomisation test, two-sided
    p_holm: float  # corrected over the slices
    wins: int
    ties: int
    losses: int


class Cost(BaseModel):
    """Average cost of one query."""

    prompts: float  # put to a language model; of a cross-encoder, pairs of a query and a text
    prompt_tokens: float  # includes shared prefixes, which the engine computes only once
    written_tokens: float
    llm_seconds: float  # rewriting with many queries at once, reranking one after the other
    searches: float


class Bin(BaseModel):
    """The queries whose first hits have about the same score."""

    queries: int
    score: float  # their mean
    right: float  # share of the first hits that are right


class NothingFound(BaseModel):
    """`confident: false` as the warning that nothing was found.

    Each query counts twice: in the gallery, and in the gallery without its right pictures, where
    no hit is right.
    """

    recall: float  # share of the queries without their pictures that are warned of
    precision: float | None  # share of the warnings that are due: the first hit is wrong
    right_if_confident: float | None  # share of the confident first hits that are right
    kept: float | None  # share of the right first hits that are confident


class Calibration(BaseModel):
    """How far the score of a first hit is the probability that it is right."""

    error: float  # expected calibration error, 0 to 1
    score: float  # mean over all queries
    right: float  # share of the first hits that are right
    confident: float  # share of the first hits that the API calls confident
    right_if_confident: float | None  # None if no hit is
    nothing_found: NothingFound
    bins: list[Bin]  # those with queries, by score


class System(BaseModel):
    """One way to search; lists have one entry for each query."""

    name: str
    about: str
    bound: bool = False  # an upper bound, such as the oracle, and not a competitor
    texts: list[tuple[str, ...]]  # what was searched; a picture as "image <id>"
    ranks: list[int]  # of the best target in the whole corpus; ties count against it
    # ... and in the query's group. Not in the file if the data has no groups.
    subset_ranks: list[int] | None = Field(None, exclude_if=lambda ranks: ranks is None)
    target_similarity: list[float] | None  # mean cosine of the texts to the best target
    random_similarity: list[float] | None  # ... and to all others; None if lists were fused
    # p of the first hit. Not in the file if the scores are no probabilities.
    first_probability: list[float] | None = Field(None, exclude_if=lambda found: found is None)
    calibration: Calibration | None = Field(None, exclude_if=lambda found: found is None)
    metrics: dict[str, dict[str, Estimate]]  # slice -> metric ("R@10", "MRR@10", ...) -> value
    median_rank: dict[str, float]  # slice -> median
    comparisons: list[Comparison]
    cost: Cost


class Loss(BaseModel):
    """A query on which a system does worse than the direct search."""

    system: str
    query: str
    rewrite: str
    direct_rank: int
    rank: int


class Results(BaseModel):
    """All results. Comparisons are made by the main metric."""

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
