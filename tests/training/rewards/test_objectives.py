"""Objectives: their credits by hand, and against every subset."""

from itertools import combinations

import numpy as np
import pytest

from training.rewards.objectives import (
    advantage_over_drawn,
    cut_at_rank,
    mixture_credit,
    most_varied,
    pass_at_k_credit,
    relative_credit,
    served_credit,
)
from training.rewards.ranking import Floats


def test_mixture_credit_is_the_share_in_the_likelihood() -> None:
    credit = mixture_credit(np.array([[0.5, 0.25, 0.25, 0.0]]), floor=0.0)
    assert credit.tolist() == [[0.5, 0.25, 0.25, 0.0]]


def test_a_group_that_never_finds_its_target_gets_little_credit() -> None:
    found, lost = mixture_credit(np.array([[0.4, 0.0], [1e-5, 0.0]]), floor=1e-3)
    assert found[0] > 0.99
    assert lost[0] < 0.01


def test_a_chosen_rewrite_is_compared_with_all_that_was_drawn() -> None:
    drawn = np.array([[0.9, 0.1, 0.0, 0.0, 0.2, 0.0]])
    mean = np.full((1, 2), drawn.mean())
    rewards = advantage_over_drawn(drawn[:, [0, 2]], mean, mixture=False)
    assert rewards == pytest.approx(drawn[:, [0, 2]] - 0.2)
    # Of everything that was drawn, the mixture's advantage is the credit minus its mean.
    credit = mixture_credit(drawn, floor=0.01)
    given = advantage_over_drawn(drawn, np.full((1, 6), drawn.mean()), mixture=True, floor=0.01)
    assert given == pytest.approx(credit - credit.mean())


def test_served_credit_is_the_gradient_of_the_likelihood_that_is_served() -> None:
    generator = np.random.default_rng(2)
    found, logs = generator.uniform(size=(3, 5)) ** 4, generator.normal(size=(3, 5))

    def likelihood(logs: Floats) -> Floats:
        weights = np.exp(logs) / np.exp(logs).sum(1, keepdims=True)
        result: Floats = np.log((weights * found).sum(1) + 0.01)
        return result

    credit = served_credit(found, logs, floor=0.01)
    for i in range(5):
        moved = np.eye(5)[i] * 1e-6
        slope = (likelihood(logs + moved) - likelihood(logs - moved)) / 2e-6
        assert credit[:, i] == pytest.approx(slope, abs=1e-6)
    assert credit.sum(1) == pytest.approx(0)


@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_pass_at_k_credit_is_that_of_all_subsets(k: int) -> None:
    rewards = np.random.default_rng(0).normal(size=(3, 5))
    credit = pass_at_k_credit(rewards, k)
    for row, given in zip(rewards, credit, strict=True):
        for i in range(5):
            subsets = list(combinations(range(5), k))
            having = [row[list(s)].max() for s in subsets if i in s]
            others = [row[list(s)].max() for s in subsets if i not in s]
            without = np.mean(others) if others else 0.0
            assert given[i] == pytest.approx((np.mean(having) - without) * k / 5)


def test_relative_credit_is_the_place_in_the_group() -> None:
    credit = relative_credit(np.array([[0.1, 5.0, 0.2, 0.1], [3.0, 3.0, 3.0, 3.0]]))
    assert credit.tolist() == [[1 / 6, 1.0, 2 / 3, 1 / 6], [0.5, 0.5, 0.5, 0.5]]


def test_what_ranks_too_low_gets_nothing() -> None:
    rewards, rank = np.array([0.9, 0.4, 0.3]), np.array([1.0, 100.0, 101.0])
    assert cut_at_rank(rewards, rank, 100).tolist() == [0.9, 0.4, 0.0]


@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_the_most_varied_rewrites_are_those_of_all_subsets(count: int) -> None:
    credit = np.random.default_rng(1).normal(size=(20, 6)) ** 3
    for row, given in zip(credit, most_varied(credit, count), strict=True):
        best = max(combinations(range(6), count), key=lambda chosen: row[list(chosen)].var())
        advantage = given - given.mean()
        expected = np.zeros(6)
        expected[list(best)] = row[list(best)] - row[list(best)].mean()
        assert advantage == pytest.approx(expected)
