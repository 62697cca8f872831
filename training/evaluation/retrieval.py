"""From vectors to ranks and lists of pictures, for one or several searches per query."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.retriever.types import Hit, Vectors
from models.search.fusion import FUSED_DEPTH, fuse
from models.search.options import Fusion
from training.rewards.ranking import TIE, Corpus, Floats, pad

Positions = Sequence[Sequence[int]]  # of pictures, for each query

DEPTH = FUSED_DEPTH  # of the lists that are kept
_CHUNK_SCORES = 1 << 22
_FUSED_TIE = 1e-12  # fused scores that are closer than this are equal


class Question(NamedTuple):
    """One query as it is searched, with its right answers."""

    vectors: Vectors  # float32 [searches, dim]
    fusion: Fusion
    targets: Sequence[int]  # positions of the right pictures
    left_out: Sequence[int] = ()  # excluded from this query's ranking
    group: Sequence[int] = ()  # a few pictures that are also ranked on their own


class Found(NamedTuple):
    """What searching found; the first axis is the queries'."""

    ranks: Floats  # of the best target in the whole corpus, ties against
    top: list[list[int]]  # positions of the first pictures, ties against the targets
    target_similarity: list[float] | None  # None if several lists were fused
    random_similarity: list[float] | None
    subset_ranks: list[int] | None  # of the best target in the query's group; None without groups


def retrieve(corpus: Corpus, questions: Sequence[Question]) -> Found:
    """Searches for each query, and fuses its lists as serving does."""
    if any(len(question.vectors) > 1 for question in questions):
        return _fused(corpus, questions)
    queries = np.concatenate([question.vectors for question in questions])
    targets = [question.targets for question in questions]
    left_out = [question.left_out for question in questions]
    ranking = corpus.rank(queries, targets, left_out)
    top: list[list[int]] = []
    subset: list[int] = []
    grouped = all(question.group for question in questions)
    for chunk in _chunks(len(questions), len(corpus)):
        scores = _scores(corpus, queries[chunk])
        lowered = _lowered(scores, targets[chunk], left_out[chunk])
        top += [[hit.position for hit in hits] for hits in _top(lowered)]
        if grouped:
            groups = [question.group for question in questions[chunk]]
            subset += _ranks_in(groups, lowered, targets[chunk])
    similar, random = ranking.positive.tolist(), ranking.random.tolist()
    return Found(ranking.rank, top, similar, random, subset if grouped else None)


def _fused(corpus: Corpus, questions: Sequence[Question]) -> Found:
    """Several lists for a query, of the depth that serving fuses."""
    most = max(len(question.vectors) for question in questions)
    ranks: list[int] = []
    top: list[list[int]] = []
    subset: list[int] = []
    grouped = all(question.group for question in questions)
    for chunk in _chunks(len(questions) * most, len(corpus) * most):
        some = questions[chunk]
        counts = [len(question.vectors) for question in some]
        if not counts:
            continue
        repeated = [q for q, count in zip(some, counts, strict=True) for _ in range(count)]
        scores = _lowered(
            _scores(corpus, np.concatenate([question.vectors for question in some])),
            [question.targets for question in repeated],
            [question.left_out for question in repeated],
        )
        lists = _top(scores)
        for question, own in zip(some, torch.split(scores, counts), strict=True):
            order = _Order.of(question, lists[: len(own)], own)
            lists = lists[len(own) :]
            ranks.append(order.rank())
            top.append(order.fused[:DEPTH])
            if grouped:
                subset.append(order.rank_in(question.group))
    return Found(np.array(ranks, float), top, None, None, subset if grouped else None)


class _Order:
    """All pictures in one query's order: first those of the fused lists, then all others by their
    best cosine in any of the searches.
    """

    def __init__(self, fused: list[int], best: Tensor, targets: Sequence[int]) -> None:
        self.fused = fused
        self._best = best  # [pictures]
        self._targets = targets
        self._places = {position: place for place, position in enumerate(fused)}

    @classmethod
    def of(cls, question: Question, lists: list[list[Hit]], scores: Tensor) -> "_Order":
        right = set(question.targets)
        hits = fuse(lists, sum(map(len, lists)), question.fusion)
        if question.fusion != "interleave" and len(lists) > 1:  # ties count against the targets
            hits.sort(key=lambda hit: -(hit.score - _FUSED_TIE * (hit.position in right)))
        return cls([hit.position for hit in hits], scores.amax(0), question.targets)

    def rank(self) -> int:
        """Of the best target in the whole corpus."""
        place, best = self._best_target
        if place < len(self.fused):
            return 1 + int(place)
        others = self._best.clone()
        others[[*self.fused, *self._targets]] = -torch.inf
        return 1 + len(self.fused) + int((others >= best).sum())

    def rank_in(self, group: Sequence[int]) -> int:
        """Of the best target among its group's pictures alone."""
        target = self._best_target
        above = 0
        for position in set(group) - set(self._targets):
            place, best = self._place(position)
            above += place < target[0] or (place == target[0] and best >= target[1])
        return 1 + above

    @property
    def _best_target(self) -> tuple[float, float]:
        return min(map(self._place, self._targets), key=lambda found: (found[0], -found[1]))

    def _place(self, position: int) -> tuple[float, float]:
        """Place in the fused list, infinite behind its end; and the best cosine."""
        return self._places.get(position, float("inf")), float(self._best[position])


def medoid(vectors: Vectors) -> int:
    """Which of several vectors ``[n, dim]`` is most like the others.

    Universal self-consistency without a second call of the language model.
    """
    return int((vectors @ vectors.T).sum(1).argmax())


def _scores(corpus: Corpus, queries: Vectors) -> Tensor:
    return torch.from_numpy(queries).to(corpus.vectors.device) @ corpus.vectors.T


def _lowered(scores: Tensor, targets: Positions, left_out: Positions) -> Tensor:
    """Lowers the targets by a tie, so that pictures with an equal score come before them."""
    scores[_cells(targets)] -= TIE
    scores[_cells(left_out)] = -torch.inf
    return scores


def _top(scores: Tensor) -> list[list[Hit]]:
    """The first pictures of each search, without those that are left out."""
    found = scores.topk(min(DEPTH, scores.shape[1]), dim=1)
    counts = torch.isfinite(found.values).sum(1).tolist()
    rows = zip(found.indices.tolist(), found.values.tolist(), counts, strict=True)
    return [
        [Hit(p, s) for p, s in zip(places[:count], values[:count], strict=True)]
        for places, values, count in rows
    ]


def _ranks_in(groups: Positions, lowered: Tensor, targets: Positions) -> list[int]:
    """Of the best target among its group's pictures alone."""
    others = [set(group) - set(right) for group, right in zip(groups, targets, strict=True)]
    positions, real = pad([list(group) for group in others], lowered.device)
    above = (lowered.gather(1, positions) >= _best(lowered, targets)) & real
    ranks: list[int] = (1 + above.sum(1)).tolist()
    return ranks


def _best(lowered: Tensor, targets: Positions) -> Tensor:
    """The score of each query's best target, ``[q, 1]``."""
    positions, real = pad(targets, lowered.device)
    return lowered.gather(1, positions).masked_fill(~real, -torch.inf).amax(1, keepdim=True)


def _cells(positions: Positions) -> tuple[Tensor, Tensor]:
    """Row and column of each query's pictures, to index scores with."""
    rows = [row for row, group in enumerate(positions) for _ in group]
    columns = [position for group in positions for position in group]
    return torch.tensor(rows, dtype=torch.long), torch.tensor(columns, dtype=torch.long)


def _chunks(queries: int, pictures: int) -> list[slice]:
    step = max(1, _CHUNK_SCORES // max(pictures, 1))
    return [slice(start, start + step) for start in range(0, queries, step)]
