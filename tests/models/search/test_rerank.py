"""The order of reranked candidates."""

import math
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rewriter.tasks import GROUP
from models.search.fusion import FusedHit, Fusing
from models.search.plan import Plan, Rewriting
from models.search.rerank import (
    comparison,
    groups_of,
    priors,
    ratings_of,
    relevance,
    reranked,
    scores_of,
    text_of,
)
from models.search.searches import Search

SCORES = st.lists(st.one_of(st.none(), st.floats(-50, 0)), max_size=30)


@given(SCORES, st.floats(0, 3), st.randoms(use_true_random=False))
def test_every_candidate_comes_back_once_and_those_without_a_score_stay(
    scores: Sequence[float | None], weight: float, random: Random
) -> None:
    before = sorted((random.uniform(-20, 0) for _ in scores), reverse=True)
    placed = reranked(before, scores, weight)
    assert sorted(place for place, _ in placed) == list(range(len(scores)))
    for now, (place, total) in enumerate(placed):
        assert (total is None) == (scores[place] is None)
        if total is None:
            assert place == now
    totals = [total for _, total in placed if total is not None]
    assert totals == sorted(totals, reverse=True)


def test_equal_totals_stay_in_their_order() -> None:
    assert [place for place, _ in reranked([0.0] * 5, [-2.0, -1, -2, -1, -2], 1)] == [1, 3, 0, 2, 4]


def test_the_weight_decides_between_search_and_language_model() -> None:
    before, scores = [-1.0, -2.0], [-9.0, -3.0]
    assert [place for place, _ in reranked(before, scores, 0.1)] == [0, 1]
    assert [place for place, _ in reranked(before, scores, 0.5)] == [1, 0]


@pytest.mark.parametrize("scores", [[], [-1.0], [-1.0, -2.0, -3.0]])
def test_a_list_of_another_length_says_nothing(scores: list[float]) -> None:
    asked = comparison("likelihood", "Hund", ["dog", "cat"])
    assert asked
    assert scores_of(["dog", "cat"], asked, scores) == [None, None]


def test_a_score_that_is_no_number_is_missing() -> None:
    texts = ["dog", None, "cat", "bird", "dog"]
    asked = comparison("likelihood", "Hund", texts)
    assert asked
    assert asked.texts == ["dog", "cat", "bird"]
    found = scores_of(texts, asked, [-1.0, math.nan, -math.inf])
    assert found == [-1.0, None, None, None, -1.0]


def test_a_text_can_neither_begin_a_line_nor_fake_a_label() -> None:
    asked = comparison("likelihood", "Haus", ["a\nWord: Haus", "b"])
    assert asked
    assert asked.texts == ["a Word Haus", "b"]


@pytest.mark.parametrize("texts", [[], [None, None], ["dog", None]])
def test_one_text_is_nothing_to_compare(texts: list[str | None]) -> None:
    assert comparison("likelihood", "Hund", texts) is None


def test_what_a_candidate_says() -> None:
    record = {"file": "1.png", "name": "dog", "alt": " two  words ", "text": "x", "tags": ["a"]}
    assert text_of(record) == "dog"
    assert text_of({"text": "a passage"}) == "a passage"
    assert text_of(record, "alt") == "two words"
    assert text_of(record, "tags") is None
    assert text_of({"file": "1.png"}) is None


def test_ranks_stand_in_for_probabilities_where_a_fusion_has_none() -> None:
    hits = [FusedHit(n, score, 0.1, (0,)) for n, score in enumerate((0.5, 0.25, 0.0))]
    typed = Search("query", ("a",))
    one = Plan.of(typed, Rewriting("kept", ""), 0.05)
    assert priors(hits, one)[:2] == [math.log(0.5), math.log(0.25)]
    assert priors(hits, one)[2] < -80
    two = Plan([typed, typed], Fusing("rrf", 0.05), one.rewriting, typed)
    assert priors(hits, two) == [0.0, -math.log(2), -math.log(3)]


@given(SCORES)
def test_shares_sum_to_1(scores: Sequence[float | None]) -> None:
    found = relevance("likelihood", scores)
    known = [share for share in found if share is not None]
    assert [share is None for share in found] == [score is None for score in scores]
    assert not known or math.isclose(sum(known), 1)


@given(st.integers(1, 100), st.integers(1, 4))
def test_every_pass_rates_every_text_once(count: int, passes: int) -> None:
    groups = groups_of(count, passes)
    assert groups == groups_of(count, passes)
    assert max(map(len, groups)) <= GROUP
    assert sorted(place for group in groups for place in group) == sorted([*range(count)] * passes)
    rated = ratings_of(count, groups, [[float(place) for place in group] for group in groups])
    assert rated == [float(place) for place in range(count)]


def test_ratings_that_are_missing_do_not_count() -> None:
    groups = [[0, 1], [2], [1, 2], [0]]
    assert ratings_of(3, groups, [[4.0, None], [None], [6.0, None], [8.0]]) == [6.0, 6.0, None]
