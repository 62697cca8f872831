"""Every picture's probability, given several rewrites."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.common.errors import InputError
from models.retriever.types import Scored, best_places
from models.search.mixture import MIXTURE_JSON, Component, Mixture, components, mix, probabilities
from models.search.searches import Search
from tests.support.vectors import unit_vectors

A, B, TYPED = (Search(name, (name,)) for name in ("a", "b", "typed"))


def scored(pictures: int, searches: int, seed: int) -> list[Scored]:
    cosines = unit_vectors(searches, seed) @ unit_vectors(pictures, seed + 1).T
    return [Scored(np.arange(pictures), row) for row in cosines]


@given(st.integers(1, 60), st.integers(1, 6), st.integers(0, 10**6), st.floats(0.01, 1))
def test_it_is_a_distribution_over_the_corpus(
    pictures: int, searches: int, seed: int, tau: float
) -> None:
    found = scored(pictures, searches, seed)
    weights = np.random.default_rng(seed).dirichlet(np.ones(searches))
    hits = mix(found, weights.tolist(), tau, pictures)
    assert sorted(hit.position for hit in hits) == list(range(pictures))
    assert sum(hit.probability for hit in hits) == pytest.approx(1, abs=1e-4)
    # The plain formula, in double precision.
    cosines = np.stack([own.cosines for own in found]).astype(float)
    softmax = np.exp(cosines / tau)
    expected = weights @ (softmax / softmax.sum(axis=1, keepdims=True))
    for hit in hits:
        assert hit.probability == pytest.approx(expected[hit.position], rel=1e-3, abs=1e-7)
        assert hit.cosine == pytest.approx(cosines[hit.by, hit.position])
    assert [hit.probability for hit in hits] == sorted(
        (hit.probability for hit in hits), reverse=True
    )
    few = mix(found, weights.tolist(), tau, 3)
    assert few == hits[:3]


def test_one_component_keeps_the_order_of_the_cosines() -> None:
    (own,) = scored(50, 1, 3)
    hits = mix([own], [1.0], 0.05, 50)
    assert [hit.position for hit in hits] == np.argsort(-own.cosines).tolist()


def test_equal_pictures_stay_in_the_order_of_the_index() -> None:
    same = Scored(np.arange(9), np.full(9, 0.5, np.float32))
    assert [hit.position for hit in mix([same, same], [0.5, 0.5], 0.05, 4)] == [0, 1, 2, 3]
    assert best_places(same.cosines, 3).tolist() == [0, 1, 2]
    assert [hit.position for hit in same.without(1).best(2)] == [0, 2]


def test_what_a_search_did_not_reach_counts_nothing_there() -> None:
    left = Scored(np.array([1, 4]), np.array([0.9, 0.1], np.float32))
    right = Scored(np.array([2, 4]), np.array([0.3, 0.3], np.float32))
    hits = mix([left, right], [0.5, 0.5], 0.1, 10)
    assert {hit.position: hit.by for hit in hits} == {1: 0, 2: 1, 4: 1}
    assert sum(hit.probability for hit in hits) == pytest.approx(1)
    empty = Scored(np.array([], np.int64), np.array([], np.float32))
    assert mix([empty], [1.0], 0.05, 5) == []
    beside = mix([left, empty], [0.5, 0.5], 0.1, 10)
    assert [(hit.position, hit.by) for hit in beside] == [(1, 0), (4, 0)]
    assert sum(hit.probability for hit in beside) == pytest.approx(0.5)


def test_weights_that_a_file_leaves_out_are_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / MIXTURE_JSON
    path.write_text('{"typed": {"known": 0.1}, "encoder_weights_sha256": "x"}')
    fitted = Mixture.in_folder(tmp_path, "x")
    assert fitted.typed == {**Mixture().typed, "known": 0.1}
    for weight in ("1.5", "-0.1", '"much"'):
        path.write_text(f'{{"typed": {{"known": {weight}}}}}')
        with pytest.raises(InputError, match="is not a fitted mixture"):
            Mixture.in_folder(tmp_path, "x")


@given(st.integers(0, 10**6))
def test_the_best_quarter_of_each_search_makes_nearly_the_same_first_ten(seed: int) -> None:
    """Of random vectors, whose cosines lie closer together than those of pictures."""
    found = scored(1600, 4, seed)
    whole = mix(found, [0.25] * 4, 0.05, 10)
    cut = []
    for own in found:
        places = np.sort(best_places(own.cosines, 400))
        cut.append(Scored(own.positions[places], own.cosines[places]))
    near = mix(cut, [0.25] * 4, 0.05, 10)
    same = {hit.position for hit in whole} & {hit.position for hit in near}
    assert len(same) >= 8
    everything = [Scored(own.positions.copy(), own.cosines) for own in found]
    assert mix(everything, [0.25] * 4, 0.05, 10) == whole


def test_rewrites_share_what_is_left_by_their_probability() -> None:
    mixture = components([A, B], [0.3, 0.1], [Component(TYPED, 0.2)])
    assert [search.name for search, _ in mixture] == ["a", "b", "typed"]
    assert [weight for _, weight in mixture] == pytest.approx([0.6, 0.2, 0.2])
    assert [weight for _, weight in components([A, B], [None, None], [])] == [0.5, 0.5]
    assert [weight for _, weight in components([A, B], [0.0, 0.0], [])] == [0.5, 0.5]
    # What has no weight is not searched, and a rewrite that repeats the query joins it.
    assert components([A], [0.3], [Component(TYPED, 0.0)]) == [Component(A, 1.0)]
    joined = components([TYPED, B], [0.1, 0.1], [Component(TYPED, 0.5)])
    assert [(search.name, weight) for search, weight in joined] == [("typed", 0.75), ("b", 0.25)]


def test_far_apart_cosines_do_not_overflow() -> None:
    table = np.array([[1.0, -1.0, -np.inf]], np.float32)
    assert probabilities(table, 0.001).tolist() == [[1.0, 0.0, 0.0]]


def test_a_fit_holds_for_its_own_encoder(tmp_path: Path) -> None:
    assert Mixture.in_folder(tmp_path, "abc") == Mixture()
    fitted = Mixture(tau=0.05, encoder_weights_sha256="abc", fitted_on="somewhere")
    (tmp_path / MIXTURE_JSON).write_text(fitted.model_dump_json())
    assert Mixture.in_folder(tmp_path, "abc") == fitted
    assert Mixture.in_folder(tmp_path, "another") == Mixture()
    assert fitted.temperature(0.01) == 0.05
    assert Mixture().temperature(0.01) == 0.02  # twice the encoder's own
    (tmp_path / MIXTURE_JSON).write_text("{")
    with pytest.raises(InputError, match="--fit-mixture"):
        Mixture.in_folder(tmp_path, "abc")
