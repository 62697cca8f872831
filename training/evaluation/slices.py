"""How well rewrites find their pictures, by language, with intervals over queries."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap

from models.rewriter.tasks import TASKS
from training.data.rows import Row
from training.rewards.ranking import Floats
from training.rewards.scorer import Scorer

_RESAMPLES = 2000
AVERAGE = "mean of languages"


@dataclass(frozen=True)
class Slice:
    """Recall of one group of queries: ``und`` for unknown language, or a task's name."""

    name: str
    queries: int
    r_at_1: float
    r_at_10: float
    low: float  # 95 % bootstrap interval of r_at_10 over queries
    high: float


def ranks_of(scorer: Scorer, texts: Sequence[str], rows: Sequence[Row]) -> Floats:
    """The rank of each row's best target when its text is searched."""
    return scorer.rank(texts, [row.targets for row in rows]).rank


def slices(rows: Sequence[Row], ranks: Floats) -> list[Slice]:
    """One for each language of the multilingual task, their mean, and one for each other task."""
    names = np.array([slice_name(row) for row in rows])
    groups = {name: ranks[names == name] for name in dict.fromkeys(names.tolist())}
    found = [slice_of(name, group) for name, group in sorted(groups.items())]
    languages = [(groups[name] <= 10).astype(float) for name in groups if _is_language(name)]
    if len(languages) > 1:
        low, high = _interval_of_mean(languages)
        mean_1 = np.mean([(groups[n] <= 1).mean() for n in groups if _is_language(n)])
        mean_10 = np.mean([hits.mean() for hits in languages])
        count = sum(map(len, languages))
        found.append(Slice(AVERAGE, count, float(mean_1), float(mean_10), low, high))
    return found


def slice_name(row: Row) -> str:
    return row.language if row.task == "multilingual" else row.task


def _is_language(name: str) -> bool:
    """English, which the encoder knows, is not averaged with the others."""
    return name not in TASKS and name != "en"


def gain_interval(rows: Sequence[Row], before: Floats, after: Floats) -> tuple[float, float, float]:
    """Gain in R@10, averaged over languages, with its paired 95 % bootstrap interval."""
    names = np.array([slice_name(row) for row in rows])
    change = (after <= 10).astype(float) - (before <= 10).astype(float)
    groups = [change[names == n] for n in dict.fromkeys(names.tolist()) if _is_language(n)]
    low, high = _interval_of_mean(groups)
    return float(np.mean([group.mean() for group in groups])) if groups else 0.0, low, high


def slice_of(name: str, ranks: Floats) -> Slice:
    hits = (ranks <= 10).astype(float)
    low, high = _interval(hits)
    return Slice(name, len(ranks), float((ranks <= 1).mean()), float(hits.mean()), low, high)


def _interval(values: Floats) -> tuple[float, float]:
    if len(values) < 2 or np.ptp(values) == 0:
        return float(values.mean()), float(values.mean())
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def _interval_of_mean(groups: Sequence[Floats]) -> tuple[float, float]:
    """Of the groups' mean of means: queries are drawn anew within each group."""

    def mean_of_means(*drawn: Floats, axis: int = -1) -> Floats:
        means: Floats = np.mean([part.mean(axis=axis) for part in drawn], axis=0)
        return means

    if not groups:
        return 0.0, 0.0
    # scipy wants two values; one alone drawn anew is itself, as it is when it stands there twice.
    wide = [np.repeat(group, 2) if len(group) == 1 else group for group in groups]
    if all(np.ptp(group) == 0 for group in wide):
        return (float(np.mean([group[0] for group in wide])),) * 2
    found = bootstrap(
        wide,
        mean_of_means,
        n_resamples=_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)
