"""GRPO with one setting changed at a time: from the same adapter, for the same minutes.

    python -m benchmarks.grpo_ablation START [--minutes 15] [--seeds 0 1 2] [--only NAME ...]
        [--write]

START is the adapter's folder. Every run has a process of its own and trains by training/demo.yaml
until its minutes are over; they hold sampling, updates and the difficulty filter's draws, but not
validation. The learning rate decays with the time, so that slow settings decay as far as fast ones.
The best adapter by held-out log-likelihood is kept, as `grape train` does. A finished run is not
repeated; an interrupted one begins anew. ``--write`` puts the table into docs/grpo.md.
"""

import argparse
import json
import math
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from benchmarks.pages import DOCS, ROOT, write_between
from models.common import paths
from models.rewriter.adapter import open_adapter
from models.rewriter.tasks import STOP
from models.search.mixture import probabilities
from training.data.rows import Row
from training.data.splits import choose
from training.evaluation.statistics import estimate
from training.pipeline import open_run
from training.rewards.objectives import mixture_weights
from training.rewards.scorer import searched
from training.settings import TrainSettings
from training.stages import grpo
from training.stages.monitor import Monitor
from training.stages.training_run import TrainingRun
from training.stages.validation import REWRITES, Validator

PAGE = DOCS / "grpo.md"
START = "start"
KINDS = {"names": "demo-all", "keywords": "demo-keywords", "descriptions": "demo-long"}
SHOWN = ("names", "keywords")  # whose R@10 is in the table
_LEAST = 1e-12  # probability, so that one lost picture does not decide
STEPS_PER_MINUTE = 8  # at the most; more than two cores manage
LAST = 10  # steps whose entropy and distinct rewrites are told

SETTINGS: Mapping[str, dict[str, Any]] = {
    "as `demo.yaml`": {},
    "`objective: rank`": {"objective": "rank"},
    "`objective: rank`, `cut_rank: 100`": {"objective": "rank", "cut_rank": 100},
    "`objective: relative`": {"objective": "relative"},
    "`objective: pass_at_k`, 4 of 8": {"objective": "pass_at_k", "pass_k": 4},
    "`groups: likeliest`, 16": {"groups": "likeliest", "group_size": 16, "prompts_per_step": 32},
    "`scale_advantages: group`": {"scale_advantages": "group"},
    "`scale_advantages: batch`": {"scale_advantages": "batch"},
    "`loss: grpo`": {"loss": "grpo"},
    "`loss: dr_grpo`": {"loss": "dr_grpo"},
    "`loss: cispo`": {"loss": "cispo"},
    "`beta: 0`": {"beta": 0.0},
    "`beta: 0.1`": {"beta": 0.1},
    "`beta: 0`, `entropy_floor: 0.8`": {"beta": 0.0, "entropy_floor": 0.8},
    "`entropy_floor: 0.9`": {"entropy_floor": 0.9},
    "PODS: `learn_from: 4` of 16, `beta: 0`": {"learn_from": 4, "group_size": 16, "beta": 0.0},
    "Reinforce-Ada: `sampling_rounds: 4`": {"sampling_rounds": 4},
    "the same, `objective: rank`": {"sampling_rounds": 4, "objective": "rank"},
    "`difficulty_draws: 4`": {"difficulty_draws": 4},
    "`rank_among: all`": {"rank_among": "all"},
}
# Draws are made for all steps before the first, so that steps which nobody has time for cost time.
FEWER_STEPS = {"`difficulty_draws: 4`": 3}


class Result(NamedTuple):
    """What is kept of a run."""

    minutes: float
    steps: int
    entropy: float
    distinct: float
    # Of the kept adapter's mixture, by kind of query: whether each query's picture is among the
    # first ten, and its log-likelihood.
    found: Mapping[str, Sequence[bool]]
    logs: Mapping[str, Sequence[float]]


class Timed(Monitor):
    """Ends a run when its minutes are over, and lets the learning rate decay with them."""

    minutes = 0.0  # set before the run

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._since = time.monotonic()

    @property
    def spent(self) -> float:
        """Minutes without validation."""
        return (time.monotonic() - self._since) / 60

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        left = max(0.0, 1 - self.spent / self.minutes)
        warm_up = min(1.0, (state.global_step + 1) / 3)
        for group in kwargs["optimizer"].param_groups:
            group["lr"] = args.learning_rate * warm_up * math.sin(left * math.pi / 2) ** 2

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        super().on_step_end(args, state, control, **kwargs)
        if self.spent >= self.minutes:
            if self.curve[-1].step != state.global_step:
                self._run_validation(state.global_step, kwargs["model"])
            control.should_training_stop = True

    def _run_validation(self, *arguments: Any, **options: Any) -> None:
        began = time.monotonic()
        super()._run_validation(*arguments, **options)
        self._since += time.monotonic() - began


class Plan(NamedTuple):
    """What all runs of a table share."""

    start: Path
    minutes: float
    queries: int  # of each kind, that a kept adapter is tested on


def settings_of(name: str, seed: int, plan: Plan, work: Path) -> TrainSettings:
    """The recipe of the demo with the changes of a setting."""
    recipe = yaml.safe_load((ROOT / "training/demo.yaml").read_text())
    most = FEWER_STEPS.get(name, STEPS_PER_MINUTE)
    changes = {
        "warm_start": False, "start_from": plan.start, "seed": seed, "work": work,
        "steps": max(1, round(most * plan.minutes)), "learning_rate_schedule": "constant",
        "average_weights_from": None, "patience": 1000, "save_every": 10_000,
    }  # fmt: skip
    return TrainSettings(**{**recipe, **changes, **SETTINGS.get(name, {})})


def train(name: str, seed: int, plan: Plan, work: Path) -> Result:
    """A run in this process."""
    run = open_run(settings_of(name, seed, plan, work))
    adapter = open_adapter(plan.start, run.base.revision).folder
    if name == START:
        return Result(0, 0, 0, 0, *tested(run, adapter, plan.queries))
    Timed.minutes = plan.minutes
    vars(grpo)["Monitor"] = Timed
    monitor = grpo.train_grpo(run, adapter)
    assert isinstance(monitor, Timed)
    spent, last = monitor.spent, monitor.steps[-LAST:]
    entropy, distinct = (
        float(np.mean([step[key] for step in last])) for key in ("entropy", "distinct")
    )
    found = tested(run, work / "best", plan.queries)
    return Result(spent, len(monitor.steps), entropy, distinct, *found)


def tested(
    run: TrainingRun, adapter: Path, queries: int
) -> tuple[dict[str, list[bool]], dict[str, list[float]]]:
    """The last two fields of a result; every adapter is tested on the same queries."""
    tokenizer = run.base.tokenizer()
    policy = grpo.load_policy(run, tokenizer, adapter)
    model = policy.sampler.current() if policy.sampler else policy.model
    counts: dict[str, int | None] = {"multilingual": queries, "long": queries}
    found: dict[str, list[bool]] = {}
    likelihoods: dict[str, list[float]] = {}
    for kind, data in KINDS.items():
        rows = choose(run.grpo_data[data], "validation", counts, seed=0)
        validator = Validator(rows, run.tasks, run.scorer, tokenizer, policy.stops)
        mixtures = validator.mixtures(model)
        written = [answer.ids for answers in mixtures for answer in answers]
        known: Any = tokenizer
        texts = known.batch_decode(written, skip_special_tokens=True)
        logs = [[answer.log_probability for answer in answers] for answers in mixtures]
        weights = mixture_weights(np.array(logs))
        found[kind], likelihoods[kind] = _searched(run, rows, texts, weights)
    return found, likelihoods


def _searched(
    run: TrainingRun, rows: Sequence[Row], texts: Sequence[str], weights: Any
) -> tuple[list[bool], list[float]]:
    queries = [row.query for row in rows for _ in range(REWRITES)]
    asked = searched([text.split(STOP)[0] for text in texts], queries)
    index, encoder = run.scorer.retriever.index, run.scorer.retriever.encoder
    cosines = encoder.encode_texts(asked) @ index.vectors().T
    given = probabilities(cosines, grpo.tau_of(run)).reshape(len(rows), REWRITES, -1)
    mixed = (given * weights[:, :, None]).sum(1)
    hits, logs = [], []
    for row, chances in zip(rows, mixed, strict=True):
        places = [place for t in row.targets if (place := index.position(t)) is not None]
        best = max(chances[places])
        hits.append(int((np.delete(chances, places) >= best).sum()) < 10)
        logs.append(math.log(max(best, _LEAST)))
    return hits, logs


def kept(folder: Path) -> Result | None:
    """The result of a finished run."""
    file = folder / "result.json"
    return Result(**json.loads(file.read_text())) if file.is_file() else None


def run_once(name: str, seed: int, plan: Plan, folder: Path) -> Result | None:
    """The result of a run, in a process of its own unless it is finished; None if it fails."""
    place = folder / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}-seed-{seed}"
    if found := kept(place):
        return found
    shutil.rmtree(place, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.grpo_ablation", plan.start, "--here", name,
               "--seeds", seed, "--minutes", plan.minutes, "--queries", plan.queries,
               "--work", place]  # fmt: skip
    subprocess.run(list(map(str, command)), check=False)
    return kept(place)


def table(results: Mapping[str, Sequence[Result]], start: Result) -> list[str]:
    """A line for each setting: means over the seeds, and differences paired by query."""
    lines = [
        "| setting | seeds | minutes | steps | gain in log-likelihood | names R@10, gained "
        "| keywords R@10, gained | entropy | distinct of a group |",
        "|---|--:|--:|--:|---|---|---|--:|--:|",
    ]
    reached = " | ".join(f"{np.mean(start.found[kind]):.3f}" for kind in SHOWN)
    lines.append(f"| the start |  |  |  |  | {reached} |  |  |")
    for name, runs in results.items():
        gain = estimate(
            *(
                np.mean([run.logs[kind] for run in runs], axis=0) - np.array(start.logs[kind])
                for kind in KINDS
            )
        )
        cells = [f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"]
        for kind in SHOWN:
            hits = np.mean([run.found[kind] for run in runs], axis=0)
            gained = estimate(hits - np.array(start.found[kind], float))
            cells.append(
                f"{hits.mean():.3f}, {gained.value:+.3f} [{gained.low:+.3f}, {gained.high:+.3f}]"
            )
        minutes, steps, entropy, distinct = (
            np.mean([getattr(run, field) for run in runs])
            for field in ("minutes", "steps", "entropy", "distinct")
        )
        lines.append(
            f"| {name} | {len(runs)} | {minutes:.1f} | {steps:.0f} | {' | '.join(cells)} "
            f"| {entropy:.2f} | {distinct:.1f} |"
        )
    return lines


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("start", type=Path, help="folder of the adapter that all runs start from")
    parser.add_argument("--minutes", type=float, default=15, help="of each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--queries", type=int, default=390, help="of each kind, for the table")
    parser.add_argument("--work", type=Path, default=paths.cache_dir() / "ablation")
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    given = parser.parse_args()
    plan = Plan(given.start, given.minutes, given.queries)
    if given.here:
        given.work.mkdir(parents=True, exist_ok=True)
        result = train(given.here, given.seeds[0], plan, given.work)
        (given.work / "result.json").write_text(json.dumps(result._asdict()) + "\n")
        return
    name = open_adapter(plan.start, None).name
    folder = given.work / f"{name}-{plan.minutes:g}-minutes-{plan.queries}-queries"
    start = run_once(START, 0, plan, folder)
    assert start, "the start cannot be tested"
    results: dict[str, list[Result]] = {}
    for seed in given.seeds:  # every setting once, before any of them a second time
        for name in given.only:
            found = run_once(name, seed, plan, folder)
            if found is None:
                print(f"{name}, seed {seed}, failed and is left out.", flush=True)
                continue
            results.setdefault(name, []).append(found)
            lines = table(results, start)
            print("\n".join(lines), "\n", flush=True)
            if given.write:
                write_between(PAGE, "ablation", "\n".join(lines))


if __name__ == "__main__":
    main()
