"""Slices of the queries, with intervals and tests over queries."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, bootstrap, permutation_test
from statsmodels.stats.multitest import multipletests

from training.evaluation.results import Against, Comparison, Estimate
from training.rewards.ranking import Floats

_RESAMPLES = 1000
_PERMUTATIONS = 9999


@dataclass(frozen=True)
class Slice:
    """Some of the queries. A mean over the slice gives each of its strata the same weight."""

    strata: tuple[tuple[int, ...], ...]  # positions of queries; none of the strata is empty

    @classmethod
    def of(cls, positions: Iterable[int]) -> "Slice":
        """A slice of one stratum, with the plain mean over queries."""
        return cls((tuple(positions),))

    @property
    def positions(self) -> list[int]:
        """Positions of all queries of the slice."""
        return [position for stratum in self.strata for position in stratum]

    def values(self, values: Floats) -> list[Floats]:
        """The values of the slice's queries, by stratum.

        Args:
            values: of every query, ``[queries]``.
        """
        return [values[list(stratum)] for stratum in self.strata]


def estimate(*strata: Floats) -> Estimate:
    """The mean of the strata's means, with its 95 % percentile bootstrap interval.

    Queries are resampled within each stratum. With one stratum this is the mean over its queries,
    with one for each language it is the macro-average over languages.

    Args:
        strata: the values of the queries, ``[queries]`` each, at least one.
    """
    mean = float(_mean_of_means(*strata))
    if all(np.ptp(stratum) == 0 for stratum in strata):
        return Estimate(value=mean, low=mean, high=mean)
    # SciPy needs two values. A single one, resampled, is itself, and so is a pair of it.
    samples = [np.repeat(stratum, 2) if len(stratum) == 1 else stratum for stratum in strata]
    interval = bootstrap(
        samples, _mean_of_means, n_resamples=_RESAMPLES, method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return Estimate(value=mean, low=float(interval.low), high=float(interval.high))


def _mean_of_means(*strata: Floats, axis: int = -1) -> Floats:
    means: Floats = np.mean([stratum.mean(axis=axis) for stratum in strata], axis=0)
    return means


def compare(
    against: Against, slices: Mapping[str, Slice], ours: Floats, theirs: Floats
) -> list[Comparison]:
    """One system against another on each slice, with Holm's correction over the slices.

    Args:
        ours: the main metric of each query, ``[queries]``.
    """
    found = []
    for name, part in slices.items():
        strata = part.values(ours - theirs)
        differences = np.concatenate(strata)
        found.append(
            Comparison(
                against=against,
                slice=name,
                queries=len(differences),
                difference=estimate(*strata),
                p=paired_p(*strata),
                p_holm=1.0,
                wins=int((differences > 0).sum()),
                ties=int((differences == 0).sum()),
                losses=int((differences < 0).sum()),
            )
        )
    corrected = multipletests([c.p for c in found], method="holm")[1]
    return [
        c.model_copy(update={"p_holm": float(p)}) for c, p in zip(found, corrected, strict=True)
    ]


def paired_p(*strata: Floats) -> float:
    """Two-sided paired randomisation test of a mean difference of 0 (Fisher; Smucker et al. 2007).

    The sign of each query's difference is flipped at random; a difference of 0 has no sign.

    Args:
        strata: the differences of the queries; each stratum has the same weight in the mean.
    """
    weighted = [stratum * (len(strata[0]) / len(stratum)) for stratum in strata]
    moved = np.concatenate(weighted)
    moved = moved[moved != 0]
    if not len(moved):
        return 1.0
    if np.ptp(np.abs(moved)) == 0:  # hits and misses: the test is the exact sign test
        return float(binomtest(int((moved > 0).sum()), len(moved)).pvalue)
    test = permutation_test(
        (moved,), np.sum, permutation_type="samples", vectorized=True,
        n_resamples=_PERMUTATIONS, rng=np.random.default_rng(0),
    )  # fmt: skip
    return float(test.pvalue)
