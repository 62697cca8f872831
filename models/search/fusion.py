"""How what several searches found becomes one list of hits."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import NamedTuple

from models.retriever.types import Scored
from models.search.mixture import Mixed, mix
from models.search.options import Fusion

# Reciprocal rank fusion's constant, from Cormack, Clarke and Büttcher, SIGIR 2009.
RRF_K = 60
FUSED_DEPTH = 100  # hits of each list: a rank beyond that adds next to nothing


class Fusing(NamedTuple):
    """How the lists of several searches are merged."""

    fusion: Fusion
    tau: float  # of the softmax that makes a cosine a probability
    weights: tuple[float, ...] = ()  # of a mixture's searches; they sum to 1


class FusedHit(NamedTuple):
    """A picture in the fused list."""

    position: int  # in the index
    score: float
    cosine: float  # in the first search of ``found_by``
    found_by: tuple[int, ...]  # the numbers of the searches that found it


def fuse(found: Sequence[Scored], how: Fusing, k: int) -> list[FusedHit]:
    """Merges what each search found into the best ``k``, best first.

    A new fusion takes three places: its name in ``options.py``, the searches that it makes in
    ``searches.py``, and here how their lists are merged.

    A single search, and a ``mixture``, are ordered by p(picture | query), which is the score; see
    :mod:`models.search.mixture`. ``interleave`` takes the first hit of each list, then the second
    of each, and so on; a hit keeps the score of the list that it is taken from, so scores do not
    fall with the rank. Every other fusion is reciprocal rank fusion: the score is the sum of
    1 / (60 + rank) over the lists.
    """
    if how.fusion == "mixture" or len(found) == 1:
        weights = how.weights if how.fusion == "mixture" else [1.0]
        return [
            FusedHit(hit.position, hit.probability, hit.cosine, (hit.by,))
            for hit in mix(found, weights, how.tau, k)
        ]
    lists = [mix([scored], [1.0], how.tau, max(k, FUSED_DEPTH)) for scored in found]
    merge = _interleaved if how.fusion == "interleave" else _by_reciprocal_rank
    return merge(lists)[:k]


def _interleaved(lists: Sequence[Sequence[Mixed]]) -> list[FusedHit]:
    finders = _finders(lists)
    taken: dict[int, FusedHit] = {}
    numbered = [[(number, hit) for hit in hits] for number, hits in enumerate(lists)]
    for place in chain.from_iterable(zip_longest(*numbered)):
        if place is None or place[1].position in taken:
            continue
        number, hit = place
        others = tuple(other for other in finders[hit.position] if other != number)
        taken[hit.position] = FusedHit(hit.position, hit.probability, hit.cosine, (number, *others))
    return list(taken.values())


def _by_reciprocal_rank(lists: Sequence[Sequence[Mixed]]) -> list[FusedHit]:
    finders = _finders(lists)
    scores: dict[int, float] = defaultdict(float)
    cosines: dict[int, float] = {}
    for hits in lists:
        for rank, hit in enumerate(hits, start=1):
            scores[hit.position] += 1 / (RRF_K + rank)
            cosines.setdefault(hit.position, hit.cosine)
    best = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return [FusedHit(place, score, cosines[place], finders[place]) for place, score in best]


def _finders(lists: Sequence[Sequence[Mixed]]) -> dict[int, tuple[int, ...]]:
    """For each picture, by position, the numbers of the lists that hold it."""
    finders: dict[int, tuple[int, ...]] = defaultdict(tuple)
    for number, hits in enumerate(lists):
        for hit in hits:
            finders[hit.position] += (number,)
    return finders
