"""What a system is measured with, and what was measured."""

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import BaseModel

from models.search.gate import Gate
from models.search.mixture import Mixture
from models.search.searches import Search
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


def shown(searches: Sequence[Search], reference: str | None) -> tuple[str, ...]:
    """For people: the parts of a single search, or one text for each of several; a picture by its
    id.
    """
    parts = [
        [part if isinstance(part, str) else f"image {reference}" for part in search.parts]
        for search in searches
    ]
    return tuple(parts[0]) if len(parts) == 1 else tuple(" + ".join(own) for own in parts)
