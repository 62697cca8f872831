"""Whether the score of a first hit is the probability that it is right."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from training.evaluation.results import Bin, Calibration, NothingFound

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

_BINS = 10


def calibration(
    scores: Sequence[float],
    ranks: Sequence[int],
    scores_without: Sequence[float],
    confident_from: float,
) -> Calibration:
    """Compares the scores of the first hits with how often these are right.

    The expected calibration error is that of Guo et al., 2017 (On Calibration of Modern Neural
    Networks, eq. 3), with ten bins of equal width: the sum over the bins of
    (queries in the bin / all queries) |share that is right - mean score|. 0 is best, 1 is worst.

    Args:
        scores: p(first hit | query) of each query, at least one.
        ranks: of the best target of each query; the first hit is right if this is 1.
        scores_without: the same of a gallery that lacks the query's right pictures.
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
        right_if_confident=_share(right, confident),
        nothing_found=nothing_found(p, right, np.array(scores_without, float), confident_from),
        bins=bins,
    )


def nothing_found(
    scores: Floats, right: Flags, scores_without: Floats, confident_from: float
) -> NothingFound:
    """How well a low score tells that nothing was found.

    Args:
        scores: p(first hit | query) of each query.
        right: whether that hit is right.
        scores_without: the same scores in a gallery that lacks the query's right pictures.
    """
    all_right = np.concatenate([right, np.zeros(len(scores_without), bool)])
    confident = np.concatenate([scores, scores_without]) >= confident_from
    return NothingFound(
        recall=float((scores_without < confident_from).mean()),
        precision=_share(~all_right, ~confident),
        right_if_confident=_share(all_right, confident),
        kept=_share(confident, all_right),
    )


def _share(flags: Flags, among: Flags) -> float | None:
    return float(flags[among].mean()) if among.any() else None
