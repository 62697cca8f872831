"""Ranks and lists of one search or of several, against plain computations."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.retriever.types import Scored, Vectors, best_places
from models.search.fusion import FUSED_DEPTH, Fusing, fuse
from models.search.mixture import mix
from models.search.options import Fusion
from tests.support.vectors import DIM, unit_vectors
from training.evaluation.metrics import per_query
from training.evaluation.retrieval import Found, Question, medoid, retrieve
from training.rewards.ranking import Corpus

TAU = 0.05
NEAR = 1e-5  # the difference of two cosines that rounding may turn round


def found_by(
    pictures: Vectors,
    queries: Sequence[Vectors],
    targets: Sequence[Sequence[int]],
    fusion: Fusion = "rrf",
    left_out: Sequence[Sequence[int]] | None = None,
) -> Found:
    """What each query's vectors ``[searches, dim]`` find."""
    left_out = left_out or [()] * len(queries)
    questions = [
        Question(vectors, Fusing(fusion, TAU), right, out)
        for vectors, right, out in zip(queries, targets, left_out, strict=True)
    ]
    return retrieve(Corpus.of(pictures), questions)


def test_constant_scores_are_no_better_than_chance() -> None:
    """The pitfall: equal scores sorted stably put the right picture first."""
    pictures, targets = np.repeat(unit_vectors(1), 200, axis=0), [[place] for place in range(50)]
    for searches in (1, 2):
        query = np.repeat(unit_vectors(1), searches, axis=0)
        found = found_by(pictures, [query] * 50, targets)
        assert set(found.ranks.tolist()) == {200.0}
        assert per_query(found.top, targets)["R@10"].mean() == 0


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 3))
def test_lists_and_ranks_tell_the_same(seed: int, size: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    queries = np.split(unit_vectors(3, seed + 1), 3)
    targets = [rng.choice(size, min(most, size), replace=False).tolist() for _ in queries]
    found = found_by(unit_vectors(size, seed), queries, targets)
    for rank, top, wanted in zip(found.ranks, found.top, targets, strict=True):
        places = [place for place, position in enumerate(top, 1) if position in wanted]
        assert places[0] == rank
        assert len(set(top)) == len(top) == min(size, 100)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31))
def test_fused_lists_are_those_that_serving_fuses(seed: int) -> None:
    pictures = unit_vectors(30, seed)
    query = unit_vectors(2, seed + 1)
    found = found_by(pictures, [query], [[0]])
    lists = []
    for vector in query:
        scores = pictures @ vector
        lists.append(Scored(np.arange(30), scores))
    served = fuse(lists, Fusing("rrf", TAU), 30)
    scores = {hit.position: hit.score for hit in served}
    assert [scores[p] for p in found.top[0]] == pytest.approx([hit.score for hit in served])
    before = sum(score >= scores[0] - 1e-12 for p, score in scores.items() if p != 0)
    assert found.ranks.tolist() == [1 + before]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 3))
def test_lists_in_turns_are_those_that_serving_makes(seed: int, most: int) -> None:
    pictures = unit_vectors(30, seed)
    a, _, c = vectors = unit_vectors(3, seed + 1)
    queries = [vectors[:most], np.stack([a]), np.stack([c, a])]
    left_out = [[], [5], [7]]
    found = found_by(pictures, queries, [[0], [1], [2]], "interleave", left_out)
    for query, group in enumerate(queries):
        lists = []
        for vector in group:
            scores = pictures @ vector
            kept = np.array([p for p in range(30) if p not in left_out[query]])
            lists.append(Scored(kept, scores[kept]))
        served = [hit.position for hit in fuse(lists, Fusing("interleave", TAU), 30)]
        assert found.top[query] == served
        assert found.ranks[query] == 1 + served.index(query)


def test_the_medoid_is_the_one_that_is_most_like_the_others() -> None:
    axis = np.eye(DIM, dtype=np.float32)
    near = axis[0] + 0.1 * axis[1]
    assert medoid(np.stack([axis[0], near / np.linalg.norm(near), axis[1]])) == 1


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31))
def test_behind_the_fused_lists_pictures_are_ranked_by_their_best_cosine(seed: int) -> None:
    pictures, query = unit_vectors(300, seed), unit_vectors(2, seed + 1)
    cosines = pictures @ query.T
    fused = {int(p) for column in cosines.T for p in np.argsort(-column)[:100]}
    behind = sorted(set(range(300)) - fused, key=lambda p: -cosines[p].max())
    target = behind[len(behind) // 2]
    # Two pictures as near as each other may change places.
    assume(np.sort(np.abs(cosines.max(axis=1) - cosines[target].max()))[1] > NEAR)
    assume(all(-np.diff(np.sort(column)[::-1])[99] > NEAR for column in cosines.T))
    found = found_by(pictures, [query], [[target]])
    assert found.ranks.tolist() == [len(fused) + 1 + len(behind) // 2]
    assert not set(found.top[0]) - fused


@settings(deadline=None, max_examples=50)
@example(0, 4, 3, 0.02)  # the target has nearly all of one component
@given(
    st.integers(0, 2**31),
    st.integers(2, 150),
    st.integers(1, 5),
    st.sampled_from([0.02, 0.05, 0.2]),
)
def test_a_mixture_is_ordered_as_serving_orders_it(
    seed: int, size: int, searches: int, tau: float
) -> None:
    rng = np.random.default_rng(seed)
    pictures, query = unit_vectors(size, seed), unit_vectors(searches, seed + 1)
    weights = tuple(rng.dirichlet(np.ones(searches)).tolist())
    target, out = rng.permutation(size)[:2].tolist()
    question = Question(query, Fusing("mixture", tau, weights), [target], [out], [target, out, 0])
    found = retrieve(Corpus.of(pictures), [question])
    kept = np.array([place for place in range(size) if place != out])
    cosines = query @ pictures[kept].T
    served = mix([Scored(kept, row) for row in cosines], weights, tau, size)
    p = {hit.position: hit.probability for hit in served}
    # Evaluation lowers the target by a tie, and computes in double precision.
    assert [p[place] for place in found.top[0]] == pytest.approx(
        [hit.probability for hit in served[:100]], rel=1e-4
    )
    others = np.array([p[place] for place in kept if place != target])
    worst, best = (1 + int((others >= p[target] * (1 + by)).sum()) for by in (-1e-3, 1e-3))
    assert best <= found.ranks[0] <= worst
    assert found.first_probability[0] == pytest.approx(served[0].probability, rel=1e-3)
    assert found.target_probability[0] == pytest.approx(p[target], rel=1e-3)
    rest = [place for place in kept if place != target]
    if rest:
        gone = [Scored(np.array(rest), row) for row in query @ pictures[rest].T]
        first = mix(gone, weights, tau, 1)[0].probability
        assert found.first_without[0] == pytest.approx(first, rel=1e-3)


def test_a_mixture_of_copies_finds_the_right_one_last() -> None:
    corpus = Corpus.of(np.repeat(unit_vectors(1), 9, axis=0))
    how = Fusing("mixture", TAU, (0.5, 0.3, 0.2))
    found = retrieve(corpus, [Question(unit_vectors(3, 5), how, [3], [0], [1, 2, 3, 4, 5])])
    assert found.ranks.tolist() == [8]
    assert found.subset_ranks == [5]
    assert found.top[0][-1] == 3
    assert 0 not in found.top[0]
    assert found.target_probability[0] == pytest.approx(1 / 8, abs=1e-4)


@pytest.mark.parametrize("temperatures", [1, 2])
def test_the_best_hundred_hits_of_each_rewrite_find_what_all_find(
    encoder: ClipEncoder, demo_index: ImageIndex, temperatures: int
) -> None:
    """Large indexes score no more; on the demo's gallery it makes no difference to R@10."""
    rng = np.random.default_rng(0)
    tau = temperatures * encoder.temperature
    names = [record["names"]["en"] for record in demo_index.metadata]
    vectors, pictures = encoder.encode_texts(names), demo_index.vectors()
    hits: dict[int, list[bool]] = {most: [] for most in (len(names), FUSED_DEPTH)}
    for target in range(0, len(names), 8):
        # The right name is one of eight guesses.
        query = vectors[[*rng.integers(0, len(names), 7).tolist(), target]]
        weights = rng.dirichlet(np.ones(8)).tolist()
        whole = [Scored(np.arange(len(names)), cosines) for cosines in query @ pictures.T]
        expected = mix(whole, weights, tau, 10)
        for most, found in hits.items():
            places = [np.sort(best_places(own.cosines, most)) for own in whole]
            cut = [
                Scored(own.positions[best], own.cosines[best])
                for own, best in zip(whole, places, strict=True)
            ]
            ten = mix(cut, weights, tau, 10)
            found.append(target in {hit.position for hit in ten})
            assert most < len(names) or ten == expected
    whole_recall, cut_recall = (float(np.mean(found)) for found in hits.values())
    assert 0.5 < whole_recall < 1
    assert cut_recall == pytest.approx(whole_recall, abs=0.005)
