"""What a system is measured with, and what was measured."""

from typing import NamedTuple

from pydantic import BaseModel

from models.search.gate import Gate
from models.search.mixture import Mixture
from training.evaluation.results import Cost


class Measured(BaseModel):
    """What one system found; lists have one entry for each query."""

    texts: list[tuple[str, ...]]
    ranks: list[int]
    top: list[list[int]]  # positions in the index
    target_similarity: list[float] | None
    random_similarity: list[float] | None
    subset_ranks: list[int] | None
    first_probability: list[float | None]  # p of the first picture, where the score is one
    target_probability: list[float | None]
    first_without: list[float | None]  # p of the first picture in a gallery without the right ones
    confident_from: float  # the score from which serving calls a first hit confident
    cost: Cost


class Fitted(NamedTuple):
    """What is served with an adapter."""

    gate: Gate
    mixture: Mixture
