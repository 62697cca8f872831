"""GRPO on this machine: our trainer against TRL's own loop, and without each of its parts.

    python -m benchmarks.grpo [--steps 2] [--only NAME ...]

Every variant trains the demo's adapter in a process of its own, on the same queries in the same
order, after one step that is not counted. TRL's loop sees the first queries of the same batch only:
it needs more than a minute for 128 rewrites. The table has rewrites per second, the peak memory of
the process, and the shares of sampling and of the rewards with their ranks in a step's time.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from trl import GRPOTrainer

from models.common import paths
from models.rewriter.adapter import open_adapter
from training.data.sources import load_rows
from training.rewards.scorer import Scorer, load_retriever
from training.settings import TrainSettings
from training.stages import decoding, grouped_trainer, grpo, rollouts
from training.stages.decoding import Answer, Decoding
from training.stages.grouped_trainer import GroupedTrainer
from training.stages.language_model import LanguageModel
from training.stages.packing import Ids, Packed, pack
from training.stages.token_scores import Head, TokenScores
from training.stages.training_run import TrainingRun

QUERIES, GROUP = 64, 8
STOCK_QUERIES = 16


class Measured(NamedTuple):
    """The counted steps of a variant."""

    per_second: float  # rewrites, sampled and learnt from
    peak_gb: float  # most memory of the process
    sampling: float  # share of the time
    rewards: float  # share of the time, with the ranks


def put(owner: object, name: str, value: object) -> None:
    """Replaces a part of the program in this process."""
    assert hasattr(owner, name), name
    setattr(owner, name, value)


def in_float32() -> None:
    put(grpo, "quick_dtype", lambda: torch.float32)


def from_the_policy() -> None:
    class Unmerged:
        def __init__(self, policy: Any) -> None:
            self._policy = policy

        def current(self) -> Any:
            return self._policy

    put(grpo, "MergedPolicy", Unmerged)


def prompt_for_each() -> None:
    def sample(
        model: Any, prompts: Sequence[Sequence[int]], group: int, decoding: Decoding
    ) -> list[list[Answer]]:
        alone = [prompt for prompt in prompts for _ in range(group)]
        found = [rewrite for (rewrite,) in rollouts.sample_groups(model, alone, 1, decoding)]
        return [found[start : start + group] for start in range(0, len(found), group)]

    put(grouped_trainer, "sample_groups", sample)


def finished_stay() -> None:
    put(decoding, "_DROP_AT", 2.0)


def from_all_words() -> None:
    def drawn(logits: Tensor, count: int, temperature: float) -> Tensor:
        probabilities = (logits.float() / temperature).softmax(1)
        return torch.multinomial(probabilities, count, replacement=True)

    put(rollouts, "_drawn", drawn)


class Own(tuple[int, ...]):
    """Token ids that equal no others, so that :func:`pack` takes them for different ones."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


def row_for_each() -> None:
    def alone(prompts: Sequence[Ids], answers: Sequence[Ids], padding: int) -> Packed:
        return pack([Own(prompt) for prompt in prompts], answers, padding)

    put(grouped_trainer, "pack", alone)


def equal_ones_again() -> None:
    def each(prompts: Sequence[Ids], answers: Sequence[Ids], padding: int) -> Packed:
        return pack(prompts, [Own(answer) for answer in answers], padding)

    put(grouped_trainer, "pack", each)


def whole_table() -> None:
    def scores(hidden: Tensor, labels: Tensor, head: Head) -> TokenScores:
        logits = (hidden.to(head.weight.dtype) @ head.weight.T).float() / head.temperature
        logs = logits.log_softmax(1)
        entropies = -(logs.detach().exp() * logs.detach()).sum(1)
        return TokenScores(logs.gather(1, labels.unsqueeze(1)).squeeze(1), entropies)

    put(grouped_trainer, "token_scores", scores)


def trls_log_probabilities() -> None:
    name = "_get_per_token_logps_and_entropies"
    put(GroupedTrainer, name, getattr(GRPOTrainer, name))


def memory_given_back() -> None:
    put(grpo, "keep_freed_memory", lambda: None)


class Variant(NamedTuple):
    """What is measured: ours, changed by a function or by settings."""

    change: Callable[[], None] = lambda: None
    settings: Mapping[str, Any] = MappingProxyType({})


VARIANTS = {
    "ours": Variant(),
    "TRL's own loop": Variant(
        memory_given_back,
        settings={"rollouts": "transformers", "prompts_per_step": STOCK_QUERIES, "micro_batch": 16},
    ),
    "without bfloat16": Variant(in_float32),
    "without the merged copy": Variant(from_the_policy),
    "the prompt for each rewrite": Variant(prompt_for_each),
    "finished rewrites stay": Variant(finished_stay),
    "drawn from all words": Variant(from_all_words),
    "a row for each rewrite": Variant(row_for_each),
    "equal rewrites computed again": Variant(equal_ones_again),
    "log-softmax as a whole table": Variant(whole_table),
    "TRL's log-probabilities": Variant(trls_log_probabilities),
    "without KL: flat groups left out": Variant(settings={"beta": 0.0}),
    "freed memory goes back to the system": Variant(memory_given_back),
}


def training_run(variant: Variant, steps: int, work: str) -> TrainingRun:
    """Names of pictures, in the order of training; nothing is validated but eight queries."""
    settings = TrainSettings(
        **{
            "work": Path(work), "tasks": ["multilingual"], "steps": steps + 1, "micro_batch": 128,
            "prompts_per_step": QUERIES, "group_size": GROUP, "rollouts": "grouped",
            "validation_queries": {"multilingual": 8}, "validation_every": steps + 1,
            "save_every": 1000, **variant.settings,
        }
    )  # fmt: skip
    base = LanguageModel.named(settings.llm)
    tasks = open_adapter(paths.ADAPTER, base.revision).tasks
    rows = load_rows(settings.data)
    return TrainingRun(settings, base, tasks, rows, Scorer(load_retriever(settings)))


def measure(variant: Variant, steps: int) -> Measured:
    """Runs a variant in this process."""
    variant.change()
    seconds: list[float] = []
    name = "_generate_single_turn"
    for trainer in (GroupedTrainer, GRPOTrainer):
        put(trainer, name, timed(getattr(trainer, name), seconds))
    with tempfile.TemporaryDirectory() as work:
        run = training_run(variant, steps, work)
        monitor = grpo.train_grpo(run, paths.ADAPTER)
    counted = monitor.steps[1:]
    total = sum(step["step_time"] for step in counted)
    rewards = sum(step["reward_time_share"] * step["step_time"] for step in counted)
    return Measured(
        per_second=len(counted) * run.settings.prompts_per_step * GROUP / total,
        peak_gb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        sampling=sum(seconds[1:]) / total,
        rewards=rewards / total,
    )


def timed(method: Any, seconds: list[float]) -> Any:
    def call(*args: Any) -> Any:
        began = time.perf_counter()
        result = method(*args)
        seconds.append(time.perf_counter() - began)
        return result

    return call


def in_own_process(name: str, steps: int) -> Measured:
    command = [sys.executable, "-m", "benchmarks.grpo", "--here", name, "--steps", str(steps)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2, help="counted steps of each variant")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--here", choices=VARIANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(measure(VARIANTS[arguments.here], arguments.steps)._asdict()))
        return
    print("| | rewrites per second | peak GB | sampling | rewards |\n|---|---:|---:|---:|---:|")
    for name in arguments.only:
        found = in_own_process(name, arguments.steps)
        print(
            f"| {name} | {found.per_second:.1f} | {found.peak_gb:.1f} | {found.sampling:.0%} | "
            f"{found.rewards:.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
