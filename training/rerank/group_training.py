"""Teaches a model to rate candidates in groups: SFT on a teacher's ratings, then GRPO.

A step of GRPO asks some queries, all groups of each. What a draw is paid for is in
:mod:`training.rewards.ratings`.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from models.rewriter.tasks import GROUP, RERANK, STOP, Task
from training.rerank.group_validation import GroupValidator
from training.rerank.groups import Grouped, answer, read_answer
from training.rewards.ranking import Floats
from training.rewards.ratings import RATING_REWARDS, Drawn
from training.settings import TrainSettings
from training.stages.batch_rewards import BatchRewards, Log
from training.stages.grpo import Course, Policy, train_grpo
from training.stages.language_model import LanguageModel, Tokenizer
from training.stages.monitor import Monitor
from training.stages.sft import fine_tune
from training.stages.training_run import TrainingRun


def imitate(
    settings: TrainSettings, base: LanguageModel, queries: Sequence[Grouped], folder: Path
) -> Path:
    """SFT on the teacher's ratings; continues an interrupted run.

    Returns:
        The folder of the PEFT adapter.
    """
    texts = [
        (group.prompt, RERANK.written(answer([query.teacher[place] for place in group.places])))
        for query in queries
        for group in query.groups
    ]
    return fine_tune(settings, base, texts, folder)


def train_groups(
    run: TrainingRun,
    start: Path | None,
    queries: Sequence[Grouped],
    held_out: Sequence[Grouped],
    task: Task,
) -> Monitor:
    """GRPO from an adapter, or from a new one.

    The best adapter by validation is in ``best`` of the work folder.

    Args:
        queries: to learn from; each has as many groups as the settings' candidates make.
        held_out: validated on.
        task: of rating.

    Raises:
        InputError: this model cannot be trained with these settings.
    """

    def course_of(run: TrainingRun, policy: Policy, tokenizer: Tokenizer) -> Course:
        settings = run.settings
        validator = GroupValidator(held_out, tokenizer, task.max_tokens, policy.stops)
        rewards = rating_rewards(settings, queries)
        return Course(_prompts(settings, queries), _per_step(settings), rewards, validator)

    return train_grpo(run, start, course_of)


def groups_of_a_query(settings: TrainSettings) -> int:
    """Prompts that show a query with all of its candidates."""
    return -(-settings.candidates // GROUP)


def _per_step(settings: TrainSettings) -> int:
    return settings.prompts_per_step * groups_of_a_query(settings)


def _prompts(settings: TrainSettings, queries: Sequence[Grouped]) -> Any:
    """The prompts in the order of training. Those of a query follow each other."""
    import datasets

    most = settings.steps * settings.prompts_per_step
    return datasets.Dataset.from_list(
        [
            {"prompt": group.prompt, "number": number}
            for number in islice(_in_turn(len(queries), settings.seed), most)
            for group in queries[number].groups
        ]
    )


def _in_turn(count: int, seed: int) -> Iterator[int]:
    """All queries in random order, again and again."""
    draws = Random(seed)
    while True:
        order = list(range(count))
        draws.shuffle(order)
        yield from order


class _Judge:
    """Reads what was drawn for a step. Keeps the last batch, which each reward asks for."""

    def __init__(self, queries: Sequence[Grouped], draws: int) -> None:
        self._queries = queries
        self._draws = draws
        self._last: tuple[list[str], list[Drawn]] | None = None

    def __call__(self, completions: list[str], numbers: list[int]) -> list[Drawn]:
        if not self._last or self._last[0] is not completions:
            self._last = completions, list(self._read(completions, numbers))
        return self._last[1]

    def _read(self, completions: list[str], numbers: list[int]) -> Iterator[Drawn]:
        start = 0
        while start < len(completions):
            query = self._queries[numbers[start]]
            ratings, good = [], []
            for group in query.groups:
                own = completions[start : start + self._draws]
                start += self._draws
                read = [read_answer(text.split(STOP)[0], len(group.places)) for text in own]
                ratings.append(np.array([values for values, _ in read], float))
                good.append([float(exact) for _, exact in read])
            places = [group.places for group in query.groups]
            yield Drawn(ratings, places, query.listed.relevance, np.array(good))


class _Reward:
    """A reward as TRL calls it, of every draw of every group of the step's queries."""

    def __init__(self, name: str, judge: _Judge, logs: bool) -> None:
        self.__name__ = name
        self._judge = judge
        self._logs = logs

    def __call__(
        self, completions: list[str], number: list[int], log_metric: Log, **others: Any
    ) -> list[float]:
        drawn = self._judge(completions, number)
        if self._logs:
            ranks: Floats = np.concatenate([own.ranks.ravel() for own in drawn])
            log_metric("rank/mean", float(ranks.mean()))
            log_metric("rank/r_at_10", float(np.mean(ranks <= 10)))
        found = [RATING_REWARDS[self.__name__](own).ravel() for own in drawn]
        values: list[float] = np.concatenate(found).tolist()
        return values


def rating_rewards(settings: TrainSettings, queries: Sequence[Grouped]) -> BatchRewards:
    """What TRL adds up and takes the advantages of."""
    judge = _Judge(queries, settings.group_size)
    names = list(settings.rewards)
    functions = [_Reward(name, judge, logs=n == 0) for n, name in enumerate(names)]
    return BatchRewards(functions, [settings.rewards[name] for name in names])
