"""How several lists of hits become one."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, zip_longest

from models.retriever.types import Hit
from models.search.options import Fusion

# Reciprocal rank fusion's constant, from Cormack, Clarke and Büttcher, SIGIR 2009.
RRF_K = 60
FUSED_DEPTH = 100  # hits of each list: a rank beyond that adds next to nothing


def fuse(lists: Sequence[Sequence[Hit]], k: int, fusion: Fusion = "rrf") -> list[Hit]:
    """Merges lists of hits, each with the best hit first, into the best ``k``.

    A new fusion takes three places: its name in ``options.py``, the searches that it makes in
    ``searches.py``, and here how their lists are merged.

    A single list stays as it is. ``interleave`` takes the first hit of each list, then the second
    of each, and so on; a hit keeps the score of the list that it is taken from, so scores do not
    fall with the rank. Every other fusion is reciprocal rank fusion: the score is the sum of
    1 / (60 + rank) over the lists.
    """
    if len(lists) == 1:
        return list(lists[0][:k])
    if fusion == "interleave":
        return _interleaved(lists)[:k]
    return _by_reciprocal_rank(lists)[:k]


def _interleaved(lists: Sequence[Sequence[Hit]]) -> list[Hit]:
    taken: dict[int, Hit] = {}
    for hit in chain.from_iterable(zip_longest(*lists)):
        if hit is not None:
            taken.setdefault(hit.position, hit)
    return list(taken.values())


def _by_reciprocal_rank(lists: Sequence[Sequence[Hit]]) -> list[Hit]:
    scores: dict[int, float] = defaultdict(float)
    for hits in lists:
        for rank, hit in enumerate(hits, start=1):
            scores[hit.position] += 1 / (RRF_K + rank)
    best = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return [Hit(position, score) for position, score in best]
