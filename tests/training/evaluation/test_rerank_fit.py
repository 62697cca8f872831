"""Fitting the weight of a reranker's score, and the scores that are kept on the way."""

from pathlib import Path

import pytest

from models.search.rerank import Comparison
from tests.support.app import FakeRewriter
from training.evaluation.rerank_fit import best_weight
from training.stages.scoring import score_candidates


@pytest.mark.parametrize(
    ("totals", "served", "best"),
    [
        ({0.0: 10.0, 0.5: 15.0, 1.0: 12.0}, 1.0, 0.5),
        ({0.0: 10.0, 0.5: 15.0, 1.0: 14.5}, 1.0, 1.0),  # a single query behind
        ({0.0: 10.0, 0.5: 4.0}, 0.5, 0.0),
    ],
)
def test_a_weight_that_is_as_good_stays(
    totals: dict[float, float], served: float, best: float
) -> None:
    assert best_weight(totals, served) == best


async def test_scores_are_kept_and_asked_once(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    rewriter = FakeRewriter()
    rewriter.likelihoods = {"dog": -1.0, "cat": -2.0}
    asked = [Comparison("likelihood", "likelihood", query, ["dog", "cat"]) for query in "abca"]
    found = await score_candidates(lambda: rewriter, asked[:2], path)
    assert [one.values for one in found] == [[-1.0, -2.0]] * 2
    with open(path, "a") as file:
        file.write('["torn')
    again = await score_candidates(lambda: rewriter, asked, path)
    assert [one.values for one in again] == [[-1.0, -2.0]] * 4
    # Once to warm up, and once for each query.
    assert [one.text for one in rewriter.compared] == [" a", " a", " b", " c", " c"]
    await score_candidates(lambda: pytest.fail("the model was started"), asked, path)
