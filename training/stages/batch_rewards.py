"""The rewards of a GRPO step, as TRL calls them."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from training.rewards.objectives import (
    cut_at_rank,
    mixture_credit,
    mixture_weights,
    most_varied,
    pass_at_k_credit,
    relative_credit,
    served_credit,
)
from training.rewards.ranking import Floats
from training.rewards.rewards import REWARDS, Rollout
from training.rewards.scorer import Scorer, recall_at
from training.settings import TrainSettings

Log = Callable[[str, float], None]
Value = Callable[[Rollout, Log], Floats]


class BatchReward:
    """A reward as TRL calls it. The rewards of a step share a scorer, which ranks the batch once.

    Args:
        name: of the reward, in logs.
        value: the reward of every completion; may log more.
    """

    def __init__(self, name: str, value: Value, scorer: Scorer) -> None:
        self.__name__ = name
        self._value = value
        self._scorer = scorer

    def __call__(
        self,
        completions: list[str],
        query: list[str],
        targets: list[list[str]],
        log_metric: Log,
        log_probability: list[float] | None = None,
        **_: Any,
    ) -> list[float]:
        """
        Args:
            log_probability: of each completion, if they are the policy's most probable ones.
        """
        began = time.perf_counter()
        rollout = self._scorer.rollout(completions, query, targets)
        if log_probability:
            rollout = rollout._replace(log_probability=np.array(log_probability))
        values: list[float] = self._value(rollout, log_metric).tolist()
        log_metric(f"seconds/{self.__name__}", time.perf_counter() - began)
        return values


class BatchRewards(NamedTuple):
    """Functions for TRL, and the weights of their sum."""

    functions: list[BatchReward]
    weights: list[float]


def batch_rewards(settings: TrainSettings, scorer: Scorer) -> BatchRewards:
    """What TRL adds up and takes the advantages of.

    With the objective ``rank`` it is the weighted sum of the rewards. Otherwise it is one more
    function, the credit of a rewrite in its group, and the rewards are only logged.

    Args:
        scorer: ranks at the temperature of the mixture.
    """
    rewards = {name: _logged(name, first=n == 0) for n, name in enumerate(settings.rewards)}
    weights = dict(settings.rewards)
    if settings.objective != "rank" or settings.learn_from or settings.cut_rank:
        rewards["credit"] = _credit(settings)
        weights = dict.fromkeys(settings.rewards, 0.0) | {"credit": 1.0}
    functions = [BatchReward(name, value, scorer) for name, value in rewards.items()]
    return BatchRewards(functions, [weights[name] for name in rewards])


def _logged(name: str, first: bool) -> Value:
    """A reward on its own; the first one of a step logs the ranking."""

    def value(rollout: Rollout, log: Log) -> Floats:
        if first:
            log_ranking(rollout, log)
        return REWARDS[name](rollout)

    return value


def log_ranking(rollout: Rollout, log: Log) -> None:
    """Mean rank, R@10, and similarities, in which inflation shows."""
    ranking = rollout.rewritten
    log("rank/mean", float(ranking.rank.mean()))
    log("rank/r_at_10", recall_at(10, ranking))
    log("similarity/target", float(ranking.positive.mean()))
    log("similarity/random", float(ranking.random.mean()))
    log("similarity/gap", float((ranking.positive - ranking.random).mean()))


def _credit(settings: TrainSettings) -> Value:
    """The credit of each completion; a process holds whole groups."""

    def value(rollout: Rollout, log: Log) -> Floats:
        if settings.objective == "mixture":
            found = np.exp(rollout.rewritten.log_probability).reshape(-1, settings.group_size)
            if rollout.log_probability is None:
                likelihood, credit = found.mean(1), mixture_credit(found)
            else:
                logs = rollout.log_probability.reshape(found.shape)
                likelihood = (mixture_weights(logs) * found).sum(1)
                credit = served_credit(found, logs)
            log("likelihood/train", float(np.log(likelihood).mean()))
        else:
            rewards = _weighted_sum(settings.rewards, rollout)
            if settings.cut_rank:
                rewards = cut_at_rank(rewards, rollout.rewritten.rank, settings.cut_rank)
            credit = _of_rewards(settings, rewards.reshape(-1, settings.group_size))
        if settings.learn_from:
            credit = most_varied(credit, settings.learn_from)
        return credit.ravel()

    return value


def _of_rewards(settings: TrainSettings, rewards: Floats) -> Floats:
    if settings.objective == "pass_at_k":
        return pass_at_k_credit(rewards, settings.pass_k)
    return relative_credit(rewards) if settings.objective == "relative" else rewards


def _weighted_sum(weights: Mapping[str, float], rollout: Rollout) -> Floats:
    total: Floats = sum(
        (weight * REWARDS[name](rollout) for name, weight in weights.items()),
        start=np.zeros(len(rollout.completions)),
    )
    return total
