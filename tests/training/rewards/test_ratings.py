"""What the ratings that were drawn for a query's groups are worth."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training.rewards.ratings import (
    RATING_REWARDS,
    Drawn,
    distribution,
    ndcg,
    recall_at_k,
    well_formed,
)

NAN = float("nan")


def drawn(*groups: list[list[float]], right: int = 0) -> Drawn:
    """Groups of the same size, in the order of the candidates; the right one is at ``right``."""
    size = len(groups[0][0])
    places = [range(n * size, (n + 1) * size) for n in range(len(groups))]
    relevance = np.zeros(size * len(groups))
    relevance[right] = 1
    ratings = [np.array(group) for group in groups]
    return Drawn(ratings, places, relevance, np.ones((len(groups), len(groups[0]))))


def test_a_draw_is_judged_among_the_means_of_the_other_groups() -> None:
    own = drawn([[9, 0], [3, 0]], [[4, 0], [8, 0]])
    assert own.merged[0].tolist() == [[9, 0, 6, 0], [3, 0, 6, 0]]
    assert own.merged[1].tolist() == [[6, 0, 4, 0], [6, 0, 8, 0]]
    assert own.ranks.tolist() == [[1, 2], [1, 2]]


def test_ndcg_falls_with_the_rank_of_the_right_one() -> None:
    own = drawn([[9, 0], [3, 0]], [[4, 0], [8, 0]])
    assert ndcg(own) == pytest.approx(np.array([[1, 1 / math.log2(3)]] * 2))


def test_grades_count() -> None:
    both = np.array([[9.0, 5.0], [5.0, 9.0]])
    own = Drawn([both], [(0, 1)], np.array([1.0, 2.0]), np.ones((1, 2)))
    first = (1 + 2 / math.log2(3)) / (2 + 1 / math.log2(3))
    assert ndcg(own) == pytest.approx(np.array([[first, 1.0]]))


def test_ties_count_against_the_right_one() -> None:
    own = drawn([[5, 5], [5, 4]])
    assert own.ranks.tolist() == [[2, 1]]
    assert ndcg(own) == pytest.approx(np.array([[1 / math.log2(3), 1]]))


def test_a_missing_rating_is_behind_all_others() -> None:
    own = drawn([[NAN, 0], [1, NAN]])
    assert own.ranks.tolist() == [[2, 1]]


def test_recall_is_of_the_first_three() -> None:
    own = drawn([[1, 9, 9, 0], [1, 9, 9, 9]])
    assert recall_at_k(own).tolist() == [[1, 0]]


def test_groups_agree_if_they_rate_like_candidates_alike() -> None:
    """The wrong ones of the second group have 2 in the first; the right one is like no other."""
    own = drawn([[9, 2]], [[2, 2]])
    assert distribution(own) == pytest.approx(np.array([[7 / 9], [7 / 9]]))
    apart = drawn([[9, 2]], [[5, 5]])
    assert distribution(apart) == pytest.approx(np.array([[2 / 3 * 7 / 9], [2 / 3 * 7 / 9]]))


def test_to_rate_all_alike_is_worth_nothing() -> None:
    assert distribution(drawn([[5, 5]], [[5, 5]])).tolist() == [[0], [0]]


def test_the_form_is_what_was_read() -> None:
    assert well_formed(drawn([[1, 2], [3, 4]])).tolist() == [[1, 1]]


RATINGS = arrays(float, (3, 4), elements=st.sampled_from([NAN, *map(float, range(10))]))


@given(RATINGS, RATINGS, st.integers(0, 7))
def test_every_reward_is_from_0_to_1(one: np.ndarray, other: np.ndarray, right: int) -> None:
    own = drawn(one.tolist(), other.tolist(), right=right)
    for name, reward in RATING_REWARDS.items():
        found = reward(own)
        assert found.shape == (2, 3), name
        assert np.all((found >= 0) & (found <= 1)), name
