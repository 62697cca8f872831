"""Metrics of each query. ir-measures computes them like trec_eval."""

from collections.abc import Sequence

import ir_measures
import numpy as np
from ir_measures import RR, Success, nDCG

from training.rewards.ranking import Floats

MAIN = "R@10"
# If a query has several right pictures, R@k requires one of them, as in papers on image retrieval.
# TREC calls this Success@k.
MEASURES = {
    "R@1": Success @ 1,
    "R@5": Success @ 5,
    "R@10": Success @ 10,
    "MRR@10": RR @ 10,
    "nDCG@10": nDCG @ 10,
}
# CIRR's recall on a query's group of pictures (Liu et al., 2021); TREC has no name for it.
SUBSET = {"R_subset@1": 1, "R_subset@2": 2, "R_subset@3": 3}
_DEEPEST = 10


def per_query(top: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> dict[str, Floats]:
    """Each metric for each query.

    Args:
        top: for each query the positions of the first pictures, best first, with ties broken.
        targets: for each query the positions of its right pictures.
    """
    run = {str(q): scored(found[:_DEEPEST]) for q, found in enumerate(top)}
    qrels = {str(q): {str(t): 1 for t in positions} for q, positions in enumerate(targets)}
    names = {measure: name for name, measure in MEASURES.items()}
    values = {name: np.zeros(len(top)) for name in MEASURES}
    for found in ir_measures.iter_calc(list(MEASURES.values()), qrels, run):
        values[names[found.measure]][int(found.query_id)] = found.value
    return values


def subset_recall(ranks: Sequence[int]) -> dict[str, Floats]:
    """Each of ``SUBSET`` for each query.

    Args:
        ranks: for each query the rank of the best target within the group.
    """
    return {name: (np.array(ranks) <= k).astype(float) for name, k in SUBSET.items()}


def scored(found: Sequence[int]) -> dict[str, float]:
    """Scores that fall with the rank, because trec_eval would sort equal ones by name."""
    return {str(position): float(len(found) - place) for place, position in enumerate(found)}
