"""Which searches each fusion makes."""

from typing import get_args

import numpy as np

from models.search.options import Fusion
from models.search.searches import Search, searches_for


def test_searches_of_every_fusion() -> None:
    typed, both = Search("query", ("q",)), [("a",), ("b",)]
    rewrites = [Search("rewrite 1", ("a",)), Search("rewrite 2", ("b",))]
    assert searches_for("original", typed, both) == [typed]
    assert searches_for("rewrite", typed, both) == rewrites
    assert searches_for("rrf", typed, both) == [typed, *rewrites]
    assert searches_for("mean", typed, both) == [Search("mean", ("q", "a", "b"))]
    assert searches_for("rewrite", typed, [("q",)]) == [typed]  # the query again
    of_two = [("a", "x"), ("b", "x")]  # called by the place of the first text among a, x and b
    assert [search.name for search in searches_for("rewrite", typed, of_two)] == [
        "rewrite 1",
        "rewrite 3",
    ]
    for fusion in get_args(Fusion):
        assert searches_for(fusion, typed, []) == [typed]


def test_searches_from_a_picture_keep_it_apart_from_the_words() -> None:
    vector = np.ones(2, np.float32)
    typed = Search("picture + query", (vector, "q"))
    assert searches_for("rewrite", typed, [("q",)]) == [Search("rewrite 1", ("q",))]
    fused = searches_for("rrf", typed, [("q",), ("a",)])
    assert [search.name for search in fused] == ["picture + query", "rewrite 1", "rewrite 2"]
    (both,) = searches_for("rewrite", typed, [("q", "a")])
    assert both == Search("rewrite 1", ("q", "a"))
    (mean,) = searches_for("mean", typed, [("q",), ("a",)])
    assert mean.texts == ("q", "a")
    assert mean.parts[0] is vector
