"""Whether the score of a first hit is the probability that it is right."""

from collections.abc import Sequence

import numpy as np

from training.evaluation.results import Bin, Calibration

_BINS = 10


def calibration(
    scores: Sequence[float], ranks: Sequence[int], confident_from: float
) -> Calibration:
    """Compares the scores of the first hits with how often these are right.

    The expected calibration error is that of Guo et al., 2017 (On Calibration of Modern Neural
    Networks, eq. 3), with ten bins of equal width: the sum over the bins of
    (queries in the bin / all queries) |share that is right - mean score|. 0 is best, 1 is worst.

    Args:
        scores: p(first hit | query) of each query, at least one.
        ranks: of the best target of each query; the first hit is right if this is 1.
        confident_from: the score from which the API calls a hit confident.
    """
    p, right = np.array(scores, float), np.array(ranks) == 1
    number = np.minimum((p * _BINS).astype(int), _BINS - 1)  # 1.0 belongs to the last bin
    bins = [
        Bin(queries=int(own.sum()), score=float(p[own].mean()), right=float(right[own].mean()))
        for own in (number == place for place in range(_BINS))
        if own.any()
    ]
    confident = p >= confident_from
    return Calibration(
        error=sum(one.queries * abs(one.right - one.score) for one in bins) / len(p),
        score=float(p.mean()),
        right=float(right.mean()),
        confident=float(confident.mean()),
        right_if_confident=float(right[confident].mean()) if confident.any() else None,
        bins=bins,
    )
