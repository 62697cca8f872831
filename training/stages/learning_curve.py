"""What a run of GRPO gained over its start, and the tables of its model card."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.stats import bootstrap

from training.stages.validation import REWRITES, Validation

Logs = Mapping[str, float]  # what the trainer logged at a step

_MEANS = {  # heading: the trainer's name
    "reward": "reward",
    "log-likelihood": "likelihood/train",
    "KL": "kl",
    "entropy": "entropy",
    "flat groups": "frac_reward_zero_std",
    "distinct": "distinct",
    "tokens": "completions/mean_length",
    "seconds": "step_time",
}


class Words(NamedTuple):
    """What the numbers of a validation are called."""

    recall: str
    sample: str
    columns: tuple[str, str, str]  # target, random, gap


REWRITES_FOUND = Words(
    "R@10 of the greedy rewrite",
    f"log-likelihood of the target in the mixture of {REWRITES} rewrites; the rest is of the "
    "greedy rewrite",
    ("to target", "to random", "gap"),
)
CANDIDATES_RATED = Words(
    "R@10 among the candidates",
    "log-likelihood of the right candidate in the softmax of the ratings; ranks are among the "
    "candidates",
    ("its rating", "the others'", "gap"),
)


class LearningCurve(NamedTuple):
    """The validations of a run, the start's first, and what was logged at each of its steps."""

    validations: Sequence[Validation] = ()
    steps: Sequence[Logs] = ()
    words: Words = REWRITES_FOUND

    @property
    def best(self) -> Validation:
        """The one of the adapter that is kept; the start's, if no later one is better."""
        return max(self.validations, key=lambda seen: seen.log_likelihood)

    def gain(self) -> str:
        """One sentence: what the kept adapter is worth on held-out queries, beyond the start.

        The interval is a paired bootstrap over the queries. The adapter was chosen on the same
        queries, so that the gain is a little too good; the test split decides.
        """
        start, best = self.validations[0], self.best
        if best is start:
            return "GRPO gained nothing: the start is kept."
        gained = np.subtract(best.log_likelihoods, start.log_likelihoods)
        low, high = bootstrap(
            (gained,), np.mean, n_resamples=1000, method="percentile", rng=np.random.default_rng(0)
        ).confidence_interval
        recall = 100 * (best.r_at_10 - start.r_at_10)
        return (
            f"GRPO gained {gained.mean():+.2f} [{low:+.2f}, {high:+.2f}] over its "
            f"start in held-out log-likelihood, and {recall:+.1f} points in {self.words.recall}: "
            f"{_name(best)} is kept."
        )

    def tables(self) -> str:
        """Both curves in Markdown; empty without GRPO."""
        if not self.validations:
            return ""
        return "\n\n".join([self.gain(), self._validation_table(), self._training_table()])

    def _validation_table(self) -> str:
        rows = [
            f"| {_name(s)} | {s.log_likelihood:.3f} | {s.r_at_1:.3f} | {s.r_at_10:.3f} "
            f"| {s.mean_rank:.0f} | {s.target:.3f} | {s.random:.3f} | {s.gap:.3f} |"
            for s in self.validations
        ]
        return "\n".join(
            [
                f"**Validation**, fixed sample: {self.words.sample}",
                "",
                "| step | log-likelihood | R@1 | R@10 | mean rank | "
                f"{' | '.join(self.words.columns)} |",
                "|---:|---:|---:|---:|---:|---:|---:|---:|",
                *rows,
            ]
        )

    def _training_table(self) -> str:
        """Means of the steps between two validations."""
        ends = [seen.step for seen in self.validations if seen.averaged == 1]
        logged = {name for step in self.steps for name in step}
        shown = {heading: name for heading, name in _MEANS.items() if name in logged}
        rows = []
        for after, until in pairwise(ends):
            logs = [step for step in self.steps if after < step["step"] <= until]
            means = [_mean(logs, name) for name in shown.values()]
            rows.append(f"| {after + 1} to {until} | " + " | ".join(means) + " |")
        return "\n".join(
            [
                "**Training**, means over the steps",
                "",
                "| steps | " + " | ".join(shown) + " |",
                "|---:" * (len(shown) + 1) + "|",
                *rows,
            ]
        )


def _name(seen: Validation) -> str:
    if seen.averaged > 1:
        return f"the mean of {seen.averaged} adapters"
    return f"step {seen.step}" if seen.step else "start"


def _mean(logs: Sequence[Logs], name: str) -> str:
    values = [step[name] for step in logs if name in step]
    return f"{np.mean(values):.3g}" if values else ""
