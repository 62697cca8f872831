"""Which texts and pictures are searched with, and how several lists of hits become one."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import NamedTuple

from models.retriever.types import Hit, Vectors
from models.search.options import Fusion

Part = str | Vectors  # a text, or a picture's unit vector, float32 [dim]

# Reciprocal rank fusion's constant, from Cormack, Clarke and Büttcher, SIGIR 2009.
RRF_K = 60
FUSED_DEPTH = 100  # hits of each list: from there on a rank adds next to nothing


class Search(NamedTuple):
    """One search in the index, with the mean vector of its parts."""

    name: str  # what a hit says that it was found by
    parts: tuple[Part, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(part for part in self.parts if isinstance(part, str))


def rewrites_to_draw(fusion: Fusion, n: int | None = None) -> int:
    """How many rewrites a search draws where nobody says; one has nothing to agree with."""
    return n or (4 if fusion == "self-consistency" else 1)


def chosen(fusion: Fusion, known: bool, beside: bool) -> Fusion:
    """What ``auto`` stands for.

    Args:
        known: the encoder knows the query as typed. A rewrite that was asked for all the same is
            searched together with it, and cannot do much harm.
        beside: something else is worth a search beside the rewrite, see :func:`searches`.
    """
    if fusion != "auto":
        return fusion
    if known:
        return "mean"
    return "interleave" if beside else "rewrite"


def searches(
    fusion: Fusion,
    typed: Search,
    rewrites: Sequence[tuple[str, ...]],
    beside: Search | None = None,
) -> list[Search]:
    """The searches to make.

    ``rewrite`` searches with each rewrite, ``original`` with what was typed, ``rrf`` with that and
    each rewrite, ``mean`` once with the mean of all, ``self-consistency`` once with the mean of the
    rewrites: what several of them agree in weighs most. ``interleave`` searches with each rewrite
    and with what is beside them. ``auto`` is one of them; see :func:`chosen`.

    Args:
        rewrites: each of one text, or of several that are searched as one: those of a long query's
            parts, or what was typed and its rewrite.
        beside: what ``interleave`` takes in turns with the rewrites; without it what was typed.
    """
    if fusion == "original" or not rewrites:
        return [typed]
    if fusion == "mean":
        new = [text for text in _distinct(rewrites) if text not in typed.texts]
        return [Search("mean", (*typed.parts, *new))]
    if fusion == "self-consistency" and len(rewrites) > 1:
        return [Search("mean", tuple(_distinct(rewrites)))]
    found = [
        typed if _says(typed, rewrite) else Search(f"rewrite {number}", rewrite)
        for number, rewrite in enumerate(rewrites, start=1)
    ]
    if fusion == "rrf":
        return [typed, *(search for search in found if search is not typed)]
    if fusion == "interleave":
        last = beside or typed
        return found if any(search is last for search in found) else [*found, last]
    return found


def fuse(lists: Sequence[Sequence[Hit]], k: int, fusion: Fusion = "rrf") -> list[Hit]:
    """One list as it is; several by reciprocal rank: the score is then sum of 1 / (60 + rank).

    ``interleave`` takes the first of each list, then the second of each, and so on; a hit keeps
    the score of the list that it is taken from, so that scores do not fall with the rank.
    """
    if len(lists) == 1:
        return list(lists[0][:k])
    if fusion == "interleave":
        taken: dict[int, Hit] = {}
        for hit in chain.from_iterable(zip_longest(*lists)):
            if hit is not None:
                taken.setdefault(hit.position, hit)
        return list(taken.values())[:k]
    scores: dict[int, float] = defaultdict(float)
    for hits in lists:
        for rank, hit in enumerate(hits, start=1):
            scores[hit.position] += 1 / (RRF_K + rank)
    best = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return [Hit(position, score) for position, score in best[:k]]


def found_by(made: Sequence[Search], lists: Sequence[Sequence[Hit]]) -> dict[int, list[str]]:
    """For each picture, by position, the names of the searches that found it."""
    found: dict[int, list[str]] = defaultdict(list)
    for search, hits in zip(made, lists, strict=True):
        for hit in hits:
            found[hit.position].append(search.name)
    return found


def _distinct(rewrites: Sequence[tuple[str, ...]]) -> list[str]:
    return list(dict.fromkeys(text for rewrite in rewrites for text in rewrite))


def _says(typed: Search, rewrite: tuple[str, ...]) -> bool:
    """Whether a rewrite is what was typed again, with no picture beside it."""
    return len(typed.parts) == len(rewrite) and typed.texts == rewrite
