"""Rewards of a reranker: what the ratings that a model draws for a query's groups are worth.

Every draw of a group is judged in the order that serving would make of it: merged with the other
groups, which keep the mean rating of their own draws. A draw is then paid for what it changes, and
not for the luck of the groups beside it.

The paper (GroupRank, arXiv 2511.11653; we could read its abstract and public summaries alone) adds
ranking metrics of the merged order to a reward that aligns the scores of different groups. These
formulas are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import ir_measures
import numpy as np
from ir_measures import nDCG

from models.rewriter.tasks import HIGHEST
from training.rewards.ranking import Floats

K_NDCG = 10
K_RECALL = 3
_MISSING = -1.0  # a candidate without a rating is put behind all others
_AGAINST = 1e-3  # what a relevant candidate is lowered by, so that ties count against it


@dataclass(frozen=True)
class Drawn:
    """What was drawn for the groups of one query.

    Args:
        ratings: of the candidates of each group, ``[draws, candidates of the group]`` each; NaN
            where a draw gave none.
        groups: places of each group's candidates; every candidate is in one group.
        relevance: of each candidate, 0 or greater.
        well_formed: ``[groups, draws]``; whether an answer is nothing but one rating each.
    """

    ratings: Sequence[Floats]
    groups: Sequence[Sequence[int]]
    relevance: Floats
    well_formed: Floats

    @property
    def draws(self) -> int:
        """Of each group."""
        return len(self.ratings[0])

    @cached_property
    def merged(self) -> Floats:
        """Each draw among the means of the other groups, ``[groups, draws, candidates]``."""
        own = [np.where(np.isnan(ratings), _MISSING, ratings) for ratings in self.ratings]
        means = np.empty(len(self.relevance))
        for places, ratings in zip(self.groups, own, strict=True):
            means[list(places)] = ratings.mean(0)
        merged: Floats = np.tile(means, (len(own), self.draws, 1))
        for number, (places, ratings) in enumerate(zip(self.groups, own, strict=True)):
            merged[number][:, list(places)] = ratings
        return merged

    @cached_property
    def ranks(self) -> Floats:
        """Of the best relevant candidate in each merged order, ``[groups, draws]``; from 1.

        Ties count against it.
        """
        right = self.relevance > 0
        best = self.merged[:, :, right].max(2, keepdims=True)
        ranks: Floats = 1.0 + (self.merged[:, :, ~right] >= best).sum(2)
        return ranks


class RatingReward(Protocol):
    """Stateless; one number from 0 to 1 for each draw of each group, ``[groups, draws]``."""

    def __call__(self, drawn: Drawn) -> Floats: ...


def ndcg(drawn: Drawn) -> Floats:
    """nDCG@10 of the merged order (Jarvelin and Kekalainen, 2002), by ``ir_measures``."""
    merged = drawn.merged.reshape(-1, len(drawn.relevance)) - _AGAINST * drawn.relevance
    names = [str(place) for place in range(len(drawn.relevance))]
    right = {name: int(grade) for name, grade in zip(names, drawn.relevance, strict=True)}
    numbers = [str(number) for number in range(len(merged))]
    rows = zip(numbers, merged, strict=True)
    run = {n: dict(zip(names, row.tolist(), strict=True)) for n, row in rows}
    found = ir_measures.iter_calc([nDCG @ K_NDCG], dict.fromkeys(numbers, right), run)
    values = {metric.query_id: metric.value for metric in found}
    return np.array([values[number] for number in numbers]).reshape(drawn.merged.shape[:2])


def recall_at_k(drawn: Drawn) -> Floats:
    """1 if a relevant candidate is among the first 3 of the merged order, otherwise 0."""
    found: Floats = (drawn.ranks <= K_RECALL).astype(float)
    return found


def distribution(drawn: Drawn) -> Floats:
    """Agreement times spread: groups that rate on one scale, and use it.

    For a draw of a group with the ratings s_j, with m(j) for the mean rating that candidates as
    relevant as j have in the other groups, and with merged ratings from ``low`` to ``high``:

        agreement = 1 - mean over j of |s_j - m(j)| / 9
        spread    = (high - low) / 9

    Candidates that no other group has the like of say nothing about agreement. Without the spread
    the best answer would be to rate all alike.
    """
    means = [np.nan_to_num(ratings).mean(0) for ratings in drawn.ratings]
    found = np.empty((len(drawn.groups), drawn.draws))
    for number, (places, ratings) in enumerate(zip(drawn.groups, drawn.ratings, strict=True)):
        others = [n for n in range(len(drawn.groups)) if n != number]
        given = np.concatenate([means[n] for n in others]) if others else np.empty(0)
        grades = np.concatenate([drawn.relevance[list(drawn.groups[n])] for n in others] or [given])
        apart = [
            np.abs(np.nan_to_num(ratings[:, j]) - given[grades == grade].mean()) / HIGHEST
            for j, grade in enumerate(drawn.relevance[list(places)])
            if (grades == grade).any()
        ]
        agreement = 1 - np.mean(apart, axis=0) if apart else np.ones(drawn.draws)
        merged = drawn.merged[number].clip(min=0)
        found[number] = agreement * (merged.max(1) - merged.min(1)) / HIGHEST
    return found


def well_formed(drawn: Drawn) -> Floats:
    """1 for an answer that is one rating for each candidate and nothing else, otherwise 0."""
    return drawn.well_formed


RATING_REWARDS: dict[str, RatingReward] = {
    "ndcg": ndcg,
    "recall_at_k": recall_at_k,
    "distribution": distribution,
    "format": well_formed,
}
