"""`grape train --dry-run`: the possible gain, before an hour is spent on training."""

from collections.abc import Mapping, Sequence

import numpy as np

from models.common.errors import InputError
from training.data.rows import Row
from training.data.splits import choose
from training.rewards.ranking import Floats, Ranking
from training.rewards.rewards import REWARDS, Rollout
from training.rewards.scorer import Scorer, recall_at, searched
from training.stages.sampling import Samples
from training.stages.training_run import TrainingRun

_WORTHWHILE = 0.03  # headroom in R@10 below which training does not pay


def dry_run_rows(run: TrainingRun) -> list[Row]:
    """The training queries that the dry run samples rewrites for.

    Raises:
        InputError: there are none.
    """
    settings = run.settings
    counts: dict[str, int | None] = dict.fromkeys(settings.tasks, settings.dry_run_queries)
    rows = choose(run.rows, "train", counts, settings.seed)
    if not rows:
        raise InputError(f"{settings.data} has no rows of the split 'train' for these tasks.")
    return rows


def report(scorer: Scorer, sampled: Mapping[Row, Samples], rewards: Mapping[str, float]) -> str:
    """A table and one sentence of advice.

    Args:
        sampled: every row with the same number of samples.
        rewards: weights by the reward's name.
    """
    rows, samples = list(sampled), list(sampled.values())
    queries, targets = [row.query for row in rows], [row.targets for row in rows]
    greedy = scorer.rank(searched([s.greedy for s in samples], queries), targets)
    count = len(samples[0].drawn)
    rollout = scorer.rollout(
        [text for sample in samples for text in sample.drawn],
        [query for query in queries for _ in range(count)],
        [ids for ids in targets for _ in range(count)],
    )
    total = weighted(rollout, rewards).reshape(len(rows), count)
    best = rollout.rewritten.take((np.arange(len(rows)) * count + total.argmax(1)).tolist())
    flat = float((np.ptp(total, axis=1) < 1e-9).mean())
    lines = [
        f"{len(rows)} training queries, {count} samples each",
        f"{'':28}  R@1   R@10",
        _line("original query", scorer.rank(queries, targets)),
        _line("one greedy rewrite", greedy),
        _line(f"mean of {count} samples", rollout.rewritten),
        _line(f"best of {count} samples by reward", best),
        *_oracle(scorer, rows),
        f"groups whose rewards are all equal: {flat:.0%} (they teach nothing)",
    ]
    return "\n".join([*lines, _advice(recall_at(10, best) - recall_at(10, greedy), flat)])


def weighted(rollout: Rollout, rewards: Mapping[str, float]) -> Floats:
    """The weighted sum of the rewards, as GRPO computes it; ``[completions]``."""
    parts = [weight * REWARDS[name](rollout) for name, weight in rewards.items()]
    total: Floats = np.sum(parts, axis=0)
    return total


def _oracle(scorer: Scorer, rows: Sequence[Row]) -> list[str]:
    """The line of a perfect rewriter, if some rows have an English query."""
    known = [(row.english, row.targets) for row in rows if row.english]
    if not known:
        return []
    texts, targets = zip(*known, strict=True)
    return [_line("oracle: the English name", scorer.rank(texts, targets))]


def _line(name: str, ranking: Ranking) -> str:
    return f"{name:28} {recall_at(1, ranking):.3f}  {recall_at(10, ranking):.3f}"


def _advice(headroom: float, flat: float) -> str:
    if headroom < _WORTHWHILE:
        return (
            f"The best sample is only {headroom:+.3f} R@10 over the greedy one: there is little to "
            "learn. Try a larger model or other examples first."
        )
    if flat > 0.5:
        return (
            f"There is {headroom:+.3f} R@10 to gain, but most groups are flat: raise --group-size "
            "or --temperature, or do the warm start first."
        )
    return (
        f"Train: the best sample is {headroom:+.3f} R@10 over the greedy rewrite, and "
        f"{1 - flat:.0%} of the groups have something to teach."
    )
