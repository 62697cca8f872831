"""Rewards: small callables from rankings to numbers, one for each text.

The paper's reward is linear in the rank, not normalised, plus one for the output's format (as its
reviewers quote it; its formulas could not be read). The linear one here is normalised, the others
are ours, but for ``similarity``: that is the reward which the paper warns of, here to show why.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from models.rewriter.tasks import TASKS, parse_rewrite
from training.rewards.ranking import Floats, Ranking

_MOST_WORDS = 24
_MOST_COMMAS = 2  # more is a list of guesses


class Rollout(NamedTuple):
    """A step's completions as the rewards see them."""

    completions: Sequence[str]  # as the model wrote them
    clip_tokens: Sequence[int]  # of what is searched
    context_length: int  # of the encoder
    rewritten: Ranking
    original: Ranking  # of the queries themselves


class Reward(Protocol):
    """Picklable, without state; ``name`` is what configs and logs call it."""

    @property
    def name(self) -> str: ...

    def __call__(self, rollout: Rollout) -> Floats:
        """One number for each completion; never raises, whatever the completions hold."""


@dataclass(frozen=True)
class RankLinear:
    """``(N - rank) / (N - 1)``, from 0 to 1; 1 where N is 1.

    Source: the paper's Eq. 4 is "purely linear" in the rank (ICLR 2026 review); dividing by N - 1
    is ours, so that a format reward of 1 weighs the same in every corpus.
    """

    name: str = "rank_linear"

    def __call__(self, rollout: Rollout) -> Floats:
        ranking = rollout.rewritten
        return (ranking.corpus_size - ranking.rank) / max(ranking.corpus_size - 1, 1)


@dataclass(frozen=True)
class RankLog:
    """``1 - ln(rank) / ln(N)``, from 0 to 1: from 10 to 1 counts as much as from 100 to 10."""

    name: str = "rank_log"

    def __call__(self, rollout: Rollout) -> Floats:
        return _rank_log(rollout.rewritten)


@dataclass(frozen=True)
class Reciprocal:
    """``1 / rank``, over 0 up to 1: the reciprocal rank of retrieval."""

    name: str = "reciprocal"

    def __call__(self, rollout: Rollout) -> Floats:
        return 1 / rollout.rewritten.rank


@dataclass(frozen=True)
class RankGain:
    """``rank_log`` of the rewrite less that of the original query, from -1 to 1."""

    name: str = "rank_gain"

    def __call__(self, rollout: Rollout) -> Floats:
        return _rank_log(rollout.rewritten) - _rank_log(rollout.original)


@dataclass(frozen=True)
class Margin:
    """Cosine of the best target less that of the best other picture, from -2 to 2."""

    name: str = "margin"

    def __call__(self, rollout: Rollout) -> Floats:
        return rollout.rewritten.positive - rollout.rewritten.hardest


@dataclass(frozen=True)
class Contrastive:
    """``1 + max(ln p, -ln N) / ln N``, from 0 to 1; p is the best target's softmax probability.

    InfoNCE (van den Oord et al., arXiv 1807.03748) over the whole corpus. A uniform guess, p = 1/N,
    gives 0, as does everything below it.
    """

    name: str = "contrastive"

    def __call__(self, rollout: Rollout) -> Floats:
        size = np.log(max(rollout.rewritten.corpus_size, 2))
        reward: Floats = 1 + np.maximum(rollout.rewritten.log_probability, -size) / size
        return reward


@dataclass(frozen=True)
class Similarity:
    """Cosine of the best target, from -1 to 1. Inflates every score; not for training."""

    name: str = "similarity"

    def __call__(self, rollout: Rollout) -> Floats:
        return rollout.rewritten.positive


@dataclass(frozen=True)
class Format:
    """1 for an answer in good shape, else 0.

    One line, not empty, within the encoder's limit, no words of the prompt's template, no
    repetition, no list of guesses, and no longer than a caption is.
    """

    name: str = "format"

    def __call__(self, rollout: Rollout) -> Floats:
        return np.array(
            [
                float(tokens <= rollout.context_length and is_well_formed(completion))
                for completion, tokens in zip(rollout.completions, rollout.clip_tokens, strict=True)
            ]
        )


def is_well_formed(completion: str) -> bool:
    """Whether an answer has the shape of one caption; the encoder's limit is not looked at."""
    if len(completion.strip().splitlines()) != 1 or parse_rewrite(completion) is None:
        return False
    words = completion.casefold().replace(",", " ").split()
    templates = {label.casefold() + ":" for task in TASKS.values() for label in task.labels}
    if len(words) > _MOST_WORDS or templates.intersection(words):
        return False
    if any(mark in completion for mark in ("<", ">", "{", "}", "|")):
        return False
    if sum(completion.count(mark) for mark in ",;/、،，") > _MOST_COMMAS:
        return False
    repeated = Counter(word for word in words if len(word) > 3)
    return max(repeated.values(), default=1) <= 2  # "smiling face with smiling eyes" is a name


REWARDS: dict[str, Reward] = {
    reward.name: reward
    for reward in (
        RankLinear(),
        RankLog(),
        Reciprocal(),
        RankGain(),
        Margin(),
        Contrastive(),
        Similarity(),
        Format(),
    )
}


def _rank_log(ranking: Ranking) -> Floats:
    reward: Floats = 1 - np.log(ranking.rank) / np.log(max(ranking.corpus_size, 2))
    return reward
