"""`grape train --dry-run`: what there is to win, before an hour is spent on winning it."""

from collections.abc import Mapping

import numpy as np

from training.data.rows import Row
from training.rewards.ranking import Floats, Ranking
from training.rewards.rewards import REWARDS, Rollout
from training.rewards.scorer import Scorer, recall_at, searched
from training.stages.sampling import Samples

_WORTH = 0.03  # headroom in R@10 below which training is not worth its time


def report(
    scorer: Scorer,
    sampled: Mapping[Row, Samples],
    rewards: dict[str, float],
    oracle: dict[str, str],
) -> str:
    """A table and one sentence of advice.

    Args:
        oracle: a perfect rewrite for a target's id, where there is one: its English name.
    """
    rows, samples = list(sampled), list(sampled.values())
    queries, targets = [row.query for row in rows], [row.targets for row in rows]
    direct = scorer.rank(queries, targets)
    greedy = scorer.rank(searched([s.greedy for s in samples], queries), targets)
    drawn = len(samples[0].drawn)
    rollout = scorer.rollout(
        [text for sample in samples for text in sample.drawn],
        [query for query in queries for _ in range(drawn)],
        [ids for ids in targets for _ in range(drawn)],
    )
    total = weighted(rollout, rewards).reshape(len(rows), drawn)
    best = rollout.rewritten.take((np.arange(len(rows)) * drawn + total.argmax(1)).tolist())
    known = [place for place, row in enumerate(rows) if row.targets[0] in oracle]
    lines = [
        f"{len(rows)} training queries, {drawn} samples each",
        f"{'':28}  R@1   R@10",
        _line("original query", direct),
        _line("one greedy rewrite", greedy),
        _line(f"mean of {drawn} samples", rollout.rewritten),
        _line(f"best of {drawn} samples by reward", best),
    ]
    if known:
        names = [oracle[rows[place].targets[0]] for place in known]
        perfect = scorer.rank(names, [targets[place] for place in known])
        lines.append(_line("oracle: the English name", perfect))
    flat = float((np.ptp(total, axis=1) < 1e-9).mean())
    lines.append(f"groups whose rewards are all equal: {flat:.0%} (they teach nothing)")
    return "\n".join([*lines, _advice(recall_at(10, best) - recall_at(10, greedy), flat)])


def weighted(rollout: Rollout, rewards: dict[str, float]) -> Floats:
    """The sum of the rewards as GRPO is given it."""
    parts = [weight * REWARDS[name](rollout) for name, weight in rewards.items()]
    total: Floats = np.sum(parts, axis=0)
    return total


def _line(name: str, ranking: Ranking) -> str:
    return f"{name:28} {recall_at(1, ranking):.3f}  {recall_at(10, ranking):.3f}"


def _advice(headroom: float, flat: float) -> str:
    if headroom < _WORTH:
        return (
            f"The best sample is only {headroom:+.3f} R@10 over the greedy one: training has "
            "little to learn from; try a larger model or other examples first."
        )
    if flat > 0.5:
        return (
            f"There is {headroom:+.3f} R@10 to win, but most groups are flat: raise --group-size "
            "or --temperature, or take the warm start first."
        )
    return (
        f"Train: the samples already hold {headroom:+.3f} R@10 over the greedy rewrite, and "
        f"{1 - flat:.0%} of the groups have something to teach."
    )
