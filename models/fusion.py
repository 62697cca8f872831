"""Which texts are searched with, and how several lists of hits become one."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from models.types import Hit

Fusion = Literal["rewrite", "original", "rrf", "mean"]

# Reciprocal rank fusion's constant, from Cormack, Clarke and Büttcher, SIGIR 2009.
RRF_K = 60


def searches(fusion: Fusion, query: str, rewrites: Sequence[str]) -> list[list[str]]:
    """The searches to make; each is a group of texts whose vectors are averaged into one.

    ``rewrite`` searches with each rewrite, ``original`` with the query, ``rrf`` with the query and
    each rewrite, ``mean`` once with the mean of all.
    """
    if fusion == "original" or not rewrites:
        return [[query]]
    if fusion == "mean":
        return [[query, *rewrites]]
    texts = [query, *rewrites] if fusion == "rrf" else list(rewrites)
    return [[text] for text in texts]


def fuse(lists: Sequence[Sequence[Hit]], k: int) -> list[Hit]:
    """One list as it is; several by reciprocal rank: the score is then sum of 1 / (60 + rank)."""
    if len(lists) == 1:
        return list(lists[0][:k])
    scores: dict[int, float] = defaultdict(float)
    for hits in lists:
        for rank, hit in enumerate(hits, start=1):
            scores[hit.position] += 1 / (RRF_K + rank)
    best = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return [Hit(position, score) for position, score in best[:k]]
