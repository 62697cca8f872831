"""How lists become one."""

import pytest

from models.retriever.types import Hit
from models.search.fusion import fuse


def test_reciprocal_rank_fusion() -> None:
    first = [Hit(7, 0.9), Hit(3, 0.8)]
    second = [Hit(3, 0.5), Hit(5, 0.4)]
    assert fuse([first], 1) == [Hit(7, 0.9)]
    fused = fuse([first, second], 10)
    assert [hit.position for hit in fused] == [3, 7, 5]
    assert fused[0].score == pytest.approx(1 / 61 + 1 / 62)
    assert fuse([[], []], 5) == []
