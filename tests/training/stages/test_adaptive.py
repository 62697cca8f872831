"""Rounds of sampling: who is drawn for again, what is learnt from, and against what."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.support.fixed_rewrites import GROUP, REWRITES, trainer_of
from training.stages.adaptive import Adaptive, Asked, Groups, Judged, balanced, draw_in_rounds
from training.stages.decoding import Answer
from training.stages.grouped_trainer import GroupedTrainer


@pytest.mark.parametrize(
    ("good", "places"),
    [
        ([1, 0, 1, 0, 1, 0, 1, 1], [0, 1, 2, 3]),
        ([0, 0, 0, 0, 0, 0, 0, 1], [0, 1, 2, 7]),
        ([1, 1, 1, 0, 1, 1, 0, 0], [0, 1, 3, 6]),
        ([1, 1, 1, 1, 1, 1, 1, 1], [0, 1, 2, 3]),
    ],
)
def test_a_group_is_half_good_and_half_bad_as_far_as_it_can_be(
    good: list[int], places: list[int]
) -> None:
    assert balanced([bool(flag) for flag in good], 4) == places


def test_queries_are_drawn_for_until_they_have_good_and_bad_rewrites() -> None:
    """Query n is settled in round n; nobody is asked more often than the rounds allow."""
    rounds: list[list[int]] = []

    def draw(numbers: Sequence[int]) -> Groups:
        rounds.append(list(numbers))
        return [[Answer((number,), 0.0), Answer((number,), 0.0)] for number in numbers]

    def judge(numbers: Sequence[int], groups: Groups) -> Judged:
        good = [(n <= len(rounds) - 1, False) for n in numbers]
        flat = [flag for pair in good for flag in pair]
        return Judged(flat, [2.0 * flag for flag in flat])

    pools = draw_in_rounds(4, 3, draw, judge)
    assert rounds == [[0, 1, 2, 3], [1, 2, 3], [2, 3]]
    assert [len(pool.answers) for pool in pools] == [2, 4, 6, 6]
    assert [pool.settled for pool in pools] == [True, True, True, False]
    assert [pool.mean for pool in pools] == [1.0, 0.5, pytest.approx(1 / 3), 0.0]
    assert draw_in_rounds(1, 3, draw, lambda *_: Judged([True, False], [1, 0]))[0].settled
    assert len(rounds) == 4


def test_the_trainers_advantage_is_the_credit_and_groups_are_balanced(
    tiny_llm: Path, tmp_path: Path
) -> None:
    """Good is about one rewrite in four; what the rewards return is not centred again."""

    def is_good(text: str) -> bool:
        return sum(map(ord, text)) % 4 == 0

    asked: list[tuple[list[str], Asked]] = []

    def judge(completions: Sequence[str], rows: Asked) -> Judged:
        asked.append((list(completions), rows))
        return Judged([is_good(text) for text in completions], [0.5] * len(completions))

    seen: dict[str, list[float]] = {}

    def credit(completions: list[str], drawn_mean: list[float], **_: object) -> list[float]:
        seen["mean"] = drawn_mean
        seen["good"] = [float(is_good(text)) for text in completions]
        return [1.0 + n for n in range(len(completions))]

    trainer = trainer_of(GroupedTrainer, tiny_llm, tmp_path, torch.float32, {})
    del trainer._generate_single_turn  # the fixed rewrites
    trainer._adaptive = Adaptive(5, judge)
    trainer.reward_funcs = [credit]
    trainer.model.train()
    torch.manual_seed(0)
    rows = [{"prompt": prompt} for prompt in REWRITES for _ in range(GROUP)]
    batch = trainer._generate_and_score_completions(rows)
    assert batch["advantages"].tolist() == [1.0 + n for n in range(16)]
    assert seen["mean"] == [0.5] * 16
    assert len(asked[0][0]) == 16
    assert all(len(texts) % GROUP == 0 for texts, _ in asked)
    (drawn,) = trainer._metrics["train"]["adaptive/drawn"]
    (settled,) = trainer._metrics["train"]["adaptive/settled"]
    assert drawn == sum(len(texts) for texts, _ in asked) / len(REWRITES)
    groups = [seen["good"][start : start + GROUP] for start in range(0, 16, GROUP)]
    assert sum(0 < sum(group) < GROUP for group in groups) == settled * len(REWRITES)
    assert settled > 0
    assert drawn > GROUP
