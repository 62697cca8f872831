"""The rewards of a GRPO step, as TRL calls them."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from training.rewards.objectives import (
    advantage_over_drawn,
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
from training.stages.adaptive import Asked, Judge, Judged

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
        **others: Any,
    ) -> list[float]:
        """
        Args:
            others: may hold ``log_probability`` of each completion, if they are the policy's most
                probable ones, or ``drawn_mean``, that of all values that were drawn for its query.
        """
        began = time.perf_counter()
        rollout = self._scorer.rollout(completions, query, targets)
        rollout = rollout._replace(
            log_probability=_array(others.get("log_probability")),
            drawn_mean=_array(others.get("drawn_mean")),
        )
        values: list[float] = self._value(rollout, log_metric).tolist()
        log_metric(f"seconds/{self.__name__}", time.perf_counter() - began)
        return values


def _array(values: list[float] | None) -> Floats | None:
    return None if values is None else np.array(values)


class BatchRewards(NamedTuple):
    """Functions for TRL, and the weights of their sum."""

    functions: Sequence[Callable[..., list[float]]]
    weights: list[float]


def batch_rewards(settings: TrainSettings, scorer: Scorer) -> BatchRewards:
    """What TRL adds up and takes the advantages of.

    With the objective ``rank`` it is the weighted sum of the rewards. Otherwise it is one more
    function, the credit of a rewrite in its group, and the rewards are only logged. With several
    rounds of sampling the credit is the advantage itself.

    Args:
        scorer: ranks at the temperature of the mixture.
    """
    rewards = {
        name: _logged(name, settings.group_size if n == 0 else 0)
        for n, name in enumerate(settings.rewards)
    }
    weights = dict(settings.rewards)
    if settings.objective != "rank" or _changes_rewards(settings):
        rewards["credit"] = _credit(settings)
        weights = dict.fromkeys(settings.rewards, 0.0) | {"credit": 1.0}
    functions = [BatchReward(name, value, scorer) for name, value in rewards.items()]
    return BatchRewards(functions, [weights[name] for name in rewards])


def _changes_rewards(settings: TrainSettings) -> bool:
    return bool(settings.learn_from or settings.cut_rank or settings.sampling_rounds > 1)


def judge_of(settings: TrainSettings, scorer: Scorer) -> Judge:
    """Says which rewrites are good, and what the objective takes the mean of."""

    def judge(completions: Sequence[str], asked: Asked) -> Judged:
        rollout = scorer.rollout(
            completions, [row["query"] for row in asked], [row["targets"] for row in asked]
        )
        good = rollout.rewritten.rank <= settings.good_rank
        return Judged(good.tolist(), _values(settings, rollout).tolist())

    return judge


def _logged(name: str, group_size: int) -> Value:
    """A reward on its own; the first one of a step is given the group size and logs the groups."""

    def value(rollout: Rollout, log: Log) -> Floats:
        if group_size:
            log_ranking(rollout, log)
            groups = np.array(rollout.completions, object).reshape(-1, group_size)
            log("distinct", float(np.mean([len(set(group)) for group in groups])))
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
    mixture = settings.objective == "mixture"

    def value(rollout: Rollout, log: Log) -> Floats:
        values = _values(settings, rollout).reshape(-1, settings.group_size)
        if rollout.drawn_mean is not None:
            mean = rollout.drawn_mean.reshape(values.shape)
            if mixture:
                log("likelihood/train", float(np.log(mean).mean()))
            credit = advantage_over_drawn(values, mean, mixture)
        elif mixture:
            credit = _of_mixture(rollout, values, log)
        else:
            credit = _of_rewards(settings, values)
        if settings.learn_from:
            credit = most_varied(credit, settings.learn_from)
        return credit.ravel()

    return value


def _of_mixture(rollout: Rollout, found: Floats, log: Log) -> Floats:
    if rollout.log_probability is None:
        likelihood, credit = found.mean(1), mixture_credit(found)
    else:
        logs = rollout.log_probability.reshape(found.shape)
        likelihood = (mixture_weights(logs) * found).sum(1)
        credit = served_credit(found, logs)
    log("likelihood/train", float(np.log(likelihood).mean()))
    return credit


def _values(settings: TrainSettings, rollout: Rollout) -> Floats:
    """p(target) of each rewrite for the mixture, otherwise its reward; ``[completions]``."""
    if settings.objective == "mixture":
        found: Floats = np.exp(rollout.rewritten.log_probability)
        return found
    rewards = _weighted_sum(settings.rewards, rollout)
    if settings.cut_rank:
        rewards = cut_at_rank(rewards, rollout.rewritten.rank, settings.cut_rank)
    return rewards


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
