"""Rewards: small callables that turn rankings into one number for each text.

The paper's reward is linear in the rank and not normalised, plus a reward for the output format (as
its reviewers quote it; we could not read its formulas). Our linear reward is normalised. The others
are ours, except for ``similarity``, which the paper warns against; it is here to show why.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from models.rewriter.tasks import TASKS, parse_rewrite
from training.rewards.ranking import Floats, Ranking

_MOST_WORDS = 24
_MOST_COMMAS = 2  # more make a list of guesses


class Rollout(NamedTuple):
    """The completions of a step, as the rewards see them."""

    completions: Sequence[str]  # as the model wrote them
    clip_tokens: Sequence[int]  # lengths of the texts that are searched
    context_length: int  # of the encoder
    rewritten: Ranking
    original: Ranking  # of the queries as typed
    log_probability: Floats | None = None  # of the completions, unless they were drawn
    # Mean value of all that was drawn for the query, if the completions were chosen from more.
    drawn_mean: Floats | None = None


class Reward(Protocol):
    """Picklable and stateless; ``name`` is its name in settings and logs."""

    @property
    def name(self) -> str: ...

    def __call__(self, rollout: Rollout) -> Floats:
        """One number for each completion, ``[completions]``; never raises for any text."""


@dataclass(frozen=True)
class RankLinear:
    """``(N - rank) / (N - 1)``, from 0 to 1; 1 if N is 1.

    Source: the paper's Eq. 4 is "purely linear" in the rank (ICLR 2026 review). We divide by N - 1,
    so that a format reward of 1 weighs the same in every corpus.
    """

    name: str = "rank_linear"

    def __call__(self, rollout: Rollout) -> Floats:
        ranking = rollout.rewritten
        return (ranking.corpus_size - ranking.rank) / max(ranking.corpus_size - 1, 1)


@dataclass(frozen=True)
class RankLog:
    """``1 - ln(rank) / ln(N)``, from 0 to 1: rank 10 to 1 is worth as much as 100 to 10."""

    name: str = "rank_log"

    def __call__(self, rollout: Rollout) -> Floats:
        return _rank_log(rollout.rewritten)


@dataclass(frozen=True)
class Reciprocal:
    """``1 / rank``, greater than 0 and at most 1: the reciprocal rank of retrieval."""

    name: str = "reciprocal"

    def __call__(self, rollout: Rollout) -> Floats:
        return 1 / rollout.rewritten.rank


@dataclass(frozen=True)
class RankGain:
    """``rank_log`` of the rewrite minus that of the original query, from -1 to 1."""

    name: str = "rank_gain"

    def __call__(self, rollout: Rollout) -> Floats:
        return _rank_log(rollout.rewritten) - _rank_log(rollout.original)


@dataclass(frozen=True)
class Margin:
    """Cosine of the best target minus that of the best other picture, from -2 to 2."""

    name: str = "margin"

    def __call__(self, rollout: Rollout) -> Floats:
        return rollout.rewritten.positive - rollout.rewritten.hardest


@dataclass(frozen=True)
class Contrastive:
    """``1 + max(ln p, -ln N) / ln N``, from 0 to 1; p is the best target's softmax probability.

    InfoNCE (van den Oord et al., arXiv 1807.03748) over the whole corpus. A uniform guess, p = 1/N,
    gives 0, and so does anything less likely.
    """

    name: str = "contrastive"

    def __call__(self, rollout: Rollout) -> Floats:
        size = np.log(max(rollout.rewritten.corpus_size, 2))
        reward: Floats = 1 + np.maximum(rollout.rewritten.log_probability, -size) / size
        return reward


@dataclass(frozen=True)
class Similarity:
    """Cosine of the best target, from -1 to 1. Inflates all scores; not for training."""

    name: str = "similarity"

    def __call__(self, rollout: Rollout) -> Floats:
        return rollout.rewritten.positive


@dataclass(frozen=True)
class Format:
    """1 for a well-formed answer, otherwise 0.

    One line that is not empty, within the encoder's limit, without labels of the prompt, repetition
    or lists of guesses, and no longer than a caption.
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
    """Whether an answer has the shape of one caption; the encoder's limit is not checked."""
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
