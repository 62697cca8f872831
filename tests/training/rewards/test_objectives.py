"""Objectives: their credits by hand, and against every subset."""

from itertools import combinations

import numpy as np
import pytest

from training.rewards.objectives import mixture_credit, pass_at_k_credit


def test_mixture_credit_is_the_share_in_the_likelihood() -> None:
    credit = mixture_credit(np.array([[0.5, 0.25, 0.25, 0.0]]), floor=0.0)
    assert credit.tolist() == [[0.5, 0.25, 0.25, 0.0]]


def test_a_group_that_never_finds_its_target_gets_little_credit() -> None:
    found, lost = mixture_credit(np.array([[0.4, 0.0], [1e-5, 0.0]]), floor=1e-3)
    assert found[0] > 0.99
    assert lost[0] < 0.01


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
