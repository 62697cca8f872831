"""Which texts are searched with, and how several lists of hits become one."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from models.types import Hit

Fusion = Literal["rewrite", "original", "rrf", "mean", "self-consistency"]

# Reciprocal rank fusion's constant, from Cormack, Clarke and Büttcher, SIGIR 2009.
RRF_K = 60


def searches(fusion: Fusion, query: str, rewrites: Sequence[str]) -> list[list[str]]:
    """The searches to make; each is a group of texts whose vectors are averaged into one.

    ``rewrite`` searches with each rewrite, ``original`` with the query, ``rrf`` with the query and
    each rewrite, ``mean`` once with the mean of all, ``self-consistency`` once with the mean of the
    rewrites: what several of them agree in weighs most.
    """
    if fusion == "original" or not rewrites:
        return [[query]]
    both = list(dict.fromkeys([query, *rewrites]))  # a rewrite may be the query again
    if fusion == "mean":
        return [both]
    if fusion == "self-consistency":
        return [list(dict.fromkeys(rewrites))]
    return [[text] for text in (both if fusion == "rrf" else rewrites)]


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


def found_by(names: Sequence[str], lists: Sequence[Sequence[Hit]]) -> dict[int, list[str]]:
    """For each picture, by position, the names of the lists that hold it."""
    found: dict[int, list[str]] = defaultdict(list)
    for name, hits in zip(names, lists, strict=True):
        for hit in hits:
            found[hit.position].append(name)
    return found


def list_names(groups: Sequence[Sequence[str]], query: str) -> list[str]:
    """What each search is called: ``query``, ``rewrite 1`` and so on, or ``mean``."""
    names = []
    for group in groups:
        if len(group) > 1:
            names.append("mean")
        elif list(group) == [query]:
            names.append("query")
        else:
            names.append(f"rewrite {1 + sum(name.startswith('rewrite') for name in names)}")
    return names
