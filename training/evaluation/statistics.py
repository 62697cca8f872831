"""Intervals and tests over queries."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import binomtest, bootstrap, permutation_test
from statsmodels.stats.multitest import multipletests

from training.evaluation.results import Against, Comparison, Estimate
from training.rewards.ranking import Floats

_RESAMPLES = 1000
_PERMUTATIONS = 9999


def estimate(values: Floats) -> Estimate:
    """The mean with its 95 % percentile bootstrap interval."""
    mean = float(values.mean())
    if len(values) < 2 or np.ptp(values) == 0:
        return Estimate(value=mean, low=mean, high=mean)
    found = bootstrap(
        (values,), np.mean, n_resamples=_RESAMPLES, method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return Estimate(value=mean, low=float(found.low), high=float(found.high))


def compare(
    against: Against, slices: Mapping[str, Sequence[int]], ours: Floats, theirs: Floats
) -> list[Comparison]:
    """One system against another on each slice, with Holm's correction over the slices.

    Args:
        slices: name -> places of its queries, none of them empty.
        ours: the main metric of each query.
    """
    found = []
    for name, places in slices.items():
        difference = (ours - theirs)[list(places)]
        found.append(
            Comparison(
                against=against,
                slice=name,
                queries=len(places),
                difference=estimate(difference),
                p=paired_p(difference),
                p_holm=1.0,
                wins=int((difference > 0).sum()),
                ties=int((difference == 0).sum()),
                losses=int((difference < 0).sum()),
            )
        )
    corrected = multipletests([c.p for c in found], method="holm")[1]
    return [
        c.model_copy(update={"p_holm": float(p)}) for c, p in zip(found, corrected, strict=True)
    ]


def paired_p(difference: Floats) -> float:
    """Two-sided paired randomisation test of a mean difference of 0 (Fisher; Smucker et al. 2007).

    Each query's sign is changed at random; queries without a difference have none to change.
    """
    moved = difference[difference != 0]
    if not len(moved):
        return 1.0
    if np.ptp(np.abs(moved)) == 0:  # hits and misses: then the test is the exact sign test
        return float(binomtest(int((moved > 0).sum()), len(moved)).pvalue)
    test = permutation_test(
        (moved,), np.sum, permutation_type="samples", vectorized=True,
        n_resamples=_PERMUTATIONS, rng=np.random.default_rng(0),
    )  # fmt: skip
    return float(test.pvalue)
