"""What the arithmetic of a GRPO step says, against real steps on this machine, and for two cards.

    python -m benchmarks.grpo_cost [--write]

Short runs of the demo's adapter. Each estimate is made in the same process just after the steps, so
that it finds the machine as they did, from rewrites that the adapter draws for other queries. Then
the recipes for a GPU are computed with the demo's queries and rewrites, at assumed rates of two
cards. ``--write`` puts both tables into docs/grpo.md.
"""

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from transformers import AutoConfig

from benchmarks.pages import DOCS, ROOT, write_between
from models.common import paths
from models.rewriter.adapter import open_adapter
from training.data.rows import Row
from training.data.sources import load_rows
from training.rewards.scorer import Scorer, load_retriever
from training.settings import TrainSettings
from training.stages import grpo
from training.stages.cost import Cost, Machine, Shape, step_cost, this_machine
from training.stages.decoding import Decoding
from training.stages.expected_cost import Sizes, work_of_step
from training.stages.language_model import LanguageModel, quick_dtype
from training.stages.rollouts import sample_groups
from training.stages.training_run import TrainingRun

PAGE = DOCS / "grpo.md"
STEPS = 3  # of which the first is not counted
KNOWN = 96  # queries whose rewrites an estimate is made from

RUNS: dict[str, dict[str, Any]] = {
    "names, 48 x 8, KL": {"prompts_per_step": 48, "group_size": 8, "micro_batch": 128},
    "names, 32 x 16": {"prompts_per_step": 32, "group_size": 16, "micro_batch": 128, "beta": 0.0},
    "descriptions, 16 x 8, KL": {
        "tasks": ["long"], "prompts_per_step": 16, "group_size": 8, "micro_batch": 64,
    },
}  # fmt: skip


class Card(NamedTuple):
    """A GPU, as the arithmetic sees it."""

    name: str
    peak: float  # bfloat16 floating point operations per second, by its data sheet
    bandwidth: float  # bytes per second, by its data sheet


CARDS = (Card("A100 80 GB", 312e12, 2.0e12), Card("H100 80 GB", 989e12, 3.35e12))
_SHARE_OF_PEAK = 0.4
_LAYER_SECONDS = 0.001  # of a layer in a pass, in small operations started from Python
_RESIDENT = 1.5e9  # bytes of a card: CUDA's context and libraries

# From the public configuration of Qwen/Qwen2.5-7B.
QWEN_7B = Shape(
    28,
    [(3584, 3584), (3584, 512), (3584, 512), (3584, 3584), (3584, 18944), (3584, 18944),
     (18944, 3584)],
    2 * 512, 3584, 152064, tied=False,
)  # fmt: skip


class Compared(NamedTuple):
    """An estimate, and what was measured."""

    seconds: float
    measured_seconds: float
    gigabytes: float
    measured_gigabytes: float


def open_run(changes: dict[str, Any], work: str) -> TrainingRun:
    settings = TrainSettings(
        **{
            "work": Path(work), "tasks": ["multilingual"], "steps": STEPS, "rollouts": "grouped",
            "validation_queries": {"multilingual": 8, "long": 8}, "validation_every": STEPS,
            "save_every": 1000, **changes,
        }
    )  # fmt: skip
    base = LanguageModel.named(settings.llm)
    tasks = open_adapter(paths.ADAPTER, base.revision).tasks
    return TrainingRun(
        settings, base, tasks, load_rows(settings.data), Scorer(load_retriever(settings))
    )


def drawn(run: TrainingRun) -> dict[Row, list[str]]:
    """Rewrites that the shipped adapter draws for training queries of the run's task."""
    tokens: Any = run.base.tokenizer()
    policy = grpo.load_policy(run, tokens, paths.ADAPTER)
    assert policy.sampler
    (task,) = run.settings.tasks
    every = [row for row in run.rows if row.task == task and row.split == "train"]
    rows = random.Random(1).sample(every, KNOWN)
    prompts = tokens([run.tasks[task].prompt(row.asked) for row in rows])["input_ids"]
    most = run.tasks[task].max_tokens
    decoding = Decoding(most, tuple(policy.stops), tokens.pad_token_id)
    groups = sample_groups(policy.sampler.current(), prompts, 16, decoding)
    texts = [tokens.batch_decode([a.ids for a in g], skip_special_tokens=True) for g in groups]
    return dict(zip(rows, texts, strict=True))


def shape_of(base: LanguageModel) -> Shape:
    config = AutoConfig.from_pretrained(base.path).get_text_config()
    return Shape.of(config, quick_dtype().itemsize)


def estimate(run: TrainingRun) -> Cost:
    shape, settings = shape_of(run.base), run.settings
    work = work_of_step(run, run.base.tokenizer(), drawn(run), Sizes.of(settings))
    machine = this_machine(shape, quick_dtype())
    return step_cost(shape, work, machine, settings.beta > 0, settings.lora_rank)


def compare(changes: dict[str, Any]) -> Compared:
    """Real steps and then an estimate, in this process."""
    with tempfile.TemporaryDirectory() as work:
        run = open_run(changes, work)
        steps = grpo.train_grpo(run, paths.ADAPTER).steps[1:]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        expected = estimate(run)
    return Compared(
        expected.seconds,
        statistics.mean(step["step_time"] for step in steps),
        expected.bytes / 1e9,
        peak / 1e9,
    )


def in_own_process(name: str) -> Compared:
    command = [sys.executable, "-m", "benchmarks.grpo_cost", "--here", name]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return Compared(**json.loads(done.stdout.splitlines()[-1]))


def measured_table(names: Sequence[str]) -> list[str]:
    lines = ["| run | s a step, computed | measured | | GB, computed | measured | |",
             "|---|--:|--:|--:|--:|--:|--:|"]  # fmt: skip
    for name in names:
        found = in_own_process(name)
        time_off = found.seconds / found.measured_seconds - 1
        memory_off = found.gigabytes / found.measured_gigabytes - 1
        lines.append(
            f"| {name} | {found.seconds:.1f} | {found.measured_seconds:.1f} | {time_off:+.0%} "
            f"| {found.gigabytes:.1f} | {found.measured_gigabytes:.1f} | {memory_off:+.0%} |"
        )
        print(lines[-1], flush=True)
    return lines


def recipe_table() -> list[str]:
    """The recipes for a GPU on two cards, with the demo's names and the rewrites of its adapter."""
    with tempfile.TemporaryDirectory() as work:
        run = open_run({}, work)
        texts = drawn(run)
    lines = ["| recipe | card | s a step, computed | minutes | GB of the trainer, computed |",
             "|---|---|--:|--:|--:|"]  # fmt: skip
    for name, shape in (("demo-gpu", shape_of(run.base)), ("gpu", QWEN_7B)):
        settings = TrainSettings(**yaml.safe_load((ROOT / f"training/{name}.yaml").read_text()))
        work_done = work_of_step(run, run.base.tokenizer(), texts, Sizes.of(settings))
        for card in CARDS:
            rate = card.peak * _SHARE_OF_PEAK
            machine = Machine(rate, rate, _LAYER_SECONDS, card.bandwidth, _RESIDENT)
            cost = step_cost(shape, work_done, machine, settings.beta > 0, settings.lora_rank)
            minutes = cost.seconds * settings.steps / 60
            lines.append(
                f"| `{name}.yaml`, {settings.prompts_per_step} x {settings.group_size} "
                f"| {card.name} | {cost.seconds:.1f} | {minutes:.0f} | {cost.bytes / 1e9:.0f} |"
            )
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=RUNS, default=list(RUNS))
    parser.add_argument("--write", action="store_true", help="put the tables into the docs")
    parser.add_argument("--here", choices=RUNS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(compare(RUNS[arguments.here])._asdict()))
        return
    tables = {"cost": measured_table(arguments.only), "recipes": recipe_table()}
    if arguments.write:
        for marker, lines in tables.items():
            write_between(PAGE, marker, "\n".join(lines))


if __name__ == "__main__":
    main()
