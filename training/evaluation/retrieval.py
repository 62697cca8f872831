"""From vectors to ranks and lists of pictures, for one or several searches per query."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.retriever.types import Scored, Vectors
from models.search.fusion import FUSED_DEPTH, Fusing, fuse
from training.rewards.ranking import TIE, Corpus, Floats

Positions = Sequence[Sequence[int]]  # of pictures, for each query

DEPTH = FUSED_DEPTH  # of the lists that are kept
_CHUNK_SCORES = 1 << 22
_BEHIND = 3.0  # of a cosine: more than any two differ by
_LEAST = 1e-300  # of a share that is divided by
_FUSED_TIE = 1e-12  # fused scores that are closer than this are equal


class Question(NamedTuple):
    """One query as it is searched, with its right answers."""

    vectors: Vectors  # float32 [searches, dim]
    how: Fusing
    targets: Sequence[int]  # positions of the right pictures
    left_out: Sequence[int] = ()  # excluded from this query's ranking
    group: Sequence[int] = ()  # a few pictures that are also ranked on their own
    demoted: Sequence[int] = ()  # pictures that the query says are not wanted


class Found(NamedTuple):
    """What searching found; the first axis is the queries'."""

    ranks: Floats  # of the best target in the whole corpus, ties against
    top: list[list[int]]  # positions of the first pictures, ties against the targets
    target_similarity: list[float] | None  # None if several lists were fused
    random_similarity: list[float] | None
    subset_ranks: list[int] | None  # of the best target in the query's group; None without groups
    top_probability: list[list[float] | None]  # p of each of the first pictures
    first_probability: list[float | None]  # p of the first picture; None if it has none
    target_probability: list[float | None]  # p of all targets together
    first_without: list[float | None]  # p of the first picture in a gallery without the targets


def retrieve(corpus: Corpus, questions: Sequence[Question]) -> Found:
    """Searches for each query, and fuses its lists as serving does."""
    orders: list[_Order | _ByProbability] = []
    similar: list[float] = []
    random: list[float] = []
    single = all(len(question.vectors) == 1 for question in questions)
    most = max((len(question.vectors) for question in questions), default=1)
    for chunk in _chunks(len(questions) * most, len(corpus) * most):
        some = questions[chunk]
        if not some:
            continue
        counts = [len(question.vectors) for question in some]
        repeated = [q for q, count in zip(some, counts, strict=True) for _ in range(count)]
        queries = np.concatenate([question.vectors for question in some])
        targets = [question.targets for question in repeated]
        left_out = [question.left_out for question in repeated]
        if single:
            ranking = corpus.rank(queries, targets, left_out)
            similar += ranking.positive.tolist()
            random += ranking.random.tolist()
        scores = _lowered(_scores(corpus, queries), targets, left_out)
        scores[_cells([question.demoted for question in repeated])] -= _BEHIND
        orders += [
            _order(question, own)
            for question, own in zip(some, torch.split(scores, counts), strict=True)
        ]
    grouped = all(question.group for question in questions)
    own = zip(orders, questions, strict=True)
    return Found(
        ranks=np.array([order.rank() for order in orders], float),
        top=[order.top for order in orders],
        target_similarity=similar if single else None,
        random_similarity=random if single else None,
        subset_ranks=[order.rank_in(q.group) for order, q in own] if grouped else None,
        top_probability=[order.top_probability for order in orders],
        first_probability=[order.first_probability for order in orders],
        target_probability=[order.target_probability for order in orders],
        first_without=[order.first_without for order in orders],
    )


def _order(question: Question, scores: Tensor) -> "_Order | _ByProbability":
    if question.how.fusion == "mixture" or len(scores) == 1:
        return _ByProbability(question, scores)
    return _Order(question, scores)


class _ByProbability:
    """All pictures in the order of p(picture | query), over the whole corpus."""

    def __init__(self, question: Question, scores: Tensor) -> None:
        """``scores``: cosines of each component, ``[components, pictures]``."""
        how = question.how
        weights = torch.tensor(how.weights if how.fusion == "mixture" else (1.0,)).double()
        given = torch.softmax(scores.double() / how.tau, dim=1).cpu()
        # Summed, because 1 minus the targets' share is rounded where they have nearly all of it.
        left = given.index_fill(1, torch.tensor(question.targets), 0.0).sum(dim=1)
        of_the_rest = weights / left.clamp_min(_LEAST)
        # The second: in a gallery without the right pictures.
        self._p, without = torch.stack([weights, of_the_rest]) @ given
        self._targets = list(question.targets)
        self._others = torch.ones(len(self._p), dtype=torch.bool)
        self._others[[*question.targets, *question.left_out]] = False
        left_out = set(question.left_out)
        order = self._p.topk(min(DEPTH + len(left_out), len(self._p))).indices.tolist()
        self.top = [place for place in order if place not in left_out][:DEPTH]
        self.top_probability: list[float] | None = self._p[self.top].tolist()
        self.first_probability: float | None = next(iter(self.top_probability), None)
        self.target_probability: float | None = float(self._p[self._targets].sum())
        rest = without[self._others]
        self.first_without: float | None = float(rest.max()) if len(rest) else None

    def rank(self) -> int:
        """Of the best target in the whole corpus."""
        return 1 + int((self._p[self._others] >= self._best).sum())

    def rank_in(self, group: Sequence[int]) -> int:
        """Of the best target among its group's pictures alone."""
        others = list(set(group) - set(self._targets))
        return 1 + int((self._p[others] >= self._best).sum())

    @property
    def _best(self) -> float:
        return float(self._p[self._targets].max())


class _Order:
    """All pictures in one query's order: first those of the fused lists, then all others by their
    best cosine in any of the searches.
    """

    # The scores are no probabilities.
    top_probability = first_probability = target_probability = first_without = None

    def __init__(self, question: Question, scores: Tensor) -> None:
        right = set(question.targets)
        found = _reached(scores)
        hits = fuse(found, question.how, sum(len(scored.positions) for scored in found))
        if question.how.fusion != "interleave":  # ties count against the targets
            hits.sort(key=lambda hit: -(hit.score - _FUSED_TIE * (hit.position in right)))
        self._fused = [hit.position for hit in hits]
        self._best = scores.amax(0)  # [pictures]
        self._targets = question.targets
        self._places = {position: place for place, position in enumerate(self._fused)}
        self.top = self._fused[:DEPTH]

    def rank(self) -> int:
        """Of the best target in the whole corpus."""
        place, best = self._best_target
        if place < len(self._fused):
            return 1 + int(place)
        others = self._best.clone()
        others[[*self._fused, *self._targets]] = -torch.inf
        return 1 + len(self._fused) + int((others >= best).sum())

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


def _reached(scores: Tensor) -> list[Scored]:
    """The first pictures of each search, without those that are left out."""
    found = scores.topk(min(DEPTH, scores.shape[1]), dim=1)
    reached = []
    for places, cosines in zip(found.indices.cpu(), found.values.cpu(), strict=True):
        kept = torch.isfinite(cosines)
        order = places[kept].argsort()
        reached.append(Scored(places[kept][order].numpy(), cosines[kept][order].numpy()))
    return reached


def _cells(positions: Positions) -> tuple[Tensor, Tensor]:
    """Row and column of each query's pictures, to index scores with."""
    rows = [row for row, group in enumerate(positions) for _ in group]
    columns = [position for group in positions for position in group]
    return torch.tensor(rows, dtype=torch.long), torch.tensor(columns, dtype=torch.long)


def _chunks(queries: int, pictures: int) -> list[slice]:
    step = max(1, _CHUNK_SCORES // max(pictures, 1))
    return [slice(start, start + step) for start in range(0, queries, step)]
