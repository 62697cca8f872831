"""How lists become one."""

import numpy as np
import pytest

from models.retriever.types import Scored
from models.search.fusion import Fusing, fuse

TAU = 0.05


def found(cosines: dict[int, float]) -> Scored:
    places = sorted(cosines)
    return Scored(np.array(places, np.int64), np.array([cosines[p] for p in places], np.float32))


def test_reciprocal_rank_fusion() -> None:
    first, second = found({7: 0.9, 3: 0.8}), found({3: 0.5, 5: 0.4})
    how = Fusing("rrf", TAU)
    fused = fuse([first, second], how, 10)
    assert [hit.position for hit in fused] == [3, 7, 5]
    assert fused[0].score == pytest.approx(1 / 61 + 1 / 62)
    assert fused[0].cosine == pytest.approx(0.8)  # in the first search that found it
    assert [hit.found_by for hit in fused] == [(0, 1), (0,), (1,)]
    assert fuse([found({}), found({})], how, 5) == []


def test_a_single_list_keeps_its_order_and_has_probabilities() -> None:
    for fusion in ("original", "rrf", "interleave"):
        hits = fuse([found({7: 0.9, 3: 0.8})], Fusing(fusion, TAU), 10)
        assert [hit.position for hit in hits] == [7, 3]
        assert sum(hit.score for hit in hits) == pytest.approx(1)
        assert hits[0].score == pytest.approx(1 / (1 + np.exp(-0.1 / TAU)), rel=1e-5)


def test_in_turns_a_hit_keeps_the_probability_in_its_own_list() -> None:
    lists = [found({1: 0.9, 2: 0.1}), found({2: 0.8, 3: 0.2})]
    hits = fuse(lists, Fusing("interleave", TAU), 3)
    assert [hit.position for hit in hits] == [1, 2, 3]
    assert [hit.found_by for hit in hits] == [(0,), (1, 0), (1,)]
    assert hits[1].cosine == pytest.approx(0.8)
