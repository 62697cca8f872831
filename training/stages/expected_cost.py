"""What a step of GRPO will cost on this machine, from the rewrites of the dry run."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from models.rewriter.tasks import STOP
from training.data.rows import Row
from training.settings import TrainSettings
from training.stages.cost import Cost, Shape, Work, count_work, step_cost, this_machine
from training.stages.grpo_queries import Plan, steps_of_queries
from training.stages.language_model import Tokenizer, quick_dtype
from training.stages.packing import Ids
from training.stages.sampling import Samples
from training.stages.training_run import TrainingRun

Texts = Mapping[Row, Sequence[str]]  # rewrites of each query


class Sizes(NamedTuple):
    """The sizes of a step."""

    queries: int
    group: int
    groups_per_pass: int
    packed: bool

    @classmethod
    def of(cls, settings: TrainSettings) -> "Sizes":
        size = settings.group_size
        per_pass = max(1, settings.micro_batch // size)
        return cls(settings.prompts_per_step, size, per_pass, "vllm" not in settings.rollouts)


def expected_cost(run: TrainingRun, sampled: Mapping[Row, Samples]) -> str:
    """One sentence; empty without steps of GRPO, or without a rewrite of any of its tasks.

    Args:
        sampled: rewrites of some training queries of each task.
    """
    from transformers import AutoConfig

    settings = run.settings
    if not settings.steps:
        return ""
    if run.base.on_gpu or settings.rollouts not in ("auto", "grouped"):
        return "GRPO's time and memory are estimated for rollouts 'grouped' on a CPU only."
    dtype = quick_dtype()
    config = AutoConfig.from_pretrained(run.base.path).get_text_config()
    shape = Shape.of(config, dtype.itemsize)
    machine = this_machine(shape, dtype)
    tokenizer, sizes = run.base.tokenizer(), Sizes.of(settings)
    costs, weights = [], []
    for task, steps in _steps_by_task(run).items():
        texts = {row: s.drawn for row, s in sampled.items() if row.task == task}
        if texts:
            work = work_of_step(run, tokenizer, texts, sizes)
            costs.append(step_cost(shape, work, machine, settings.beta > 0, settings.lora_rank))
            weights.append(steps)
    return sentence(costs, weights, settings.steps) if costs else ""


def sentence(costs: Sequence[Cost], weights: Sequence[float], steps: int) -> str:
    """The mean over the kinds of steps, and the most memory of any of them."""
    total = sum(weights)

    def mean(values: Sequence[float]) -> float:
        return sum(v * w for v, w in zip(values, weights, strict=True)) / total

    step = mean([cost.seconds for cost in costs])
    sampling = mean([cost.sampling for cost in costs])
    memory = max(cost.bytes for cost in costs) / 1e9
    return (
        f"GRPO will take about {step:.0f} s a step, {sampling:.0f} s of it for sampling; "
        f"{steps * step / 60:.0f} minutes for {steps} steps, validation not counted. It needs "
        f"about {memory:.1f} GB."
    )


def work_of_step(run: TrainingRun, tokenizer: Tokenizer, texts: Texts, sizes: Sizes) -> Work:
    """The work of a step that asks some of these queries.

    Groups are drawn with replacement from the rewrites of a query: a few rewrites stand for many.
    """
    rng, tokens = random.Random(0), _tokens(tokenizer)
    rows = rng.choices(list(texts), k=sizes.queries)
    prompts = [tokens(run.tasks[row.task].prompt(row.asked)) for row in rows]
    groups = []
    for row in rows:
        most = run.tasks[row.task].max_tokens
        written = rng.choices(texts[row], k=sizes.group)
        ended = [tokens(text.split(STOP)[0] + STOP, special=False)[:most] for text in written]
        groups.append(ended)
    return count_work(prompts, groups, sizes.groups_per_pass, sizes.packed)


def _tokens(tokenizer: Tokenizer) -> Any:
    known: Any = tokenizer

    def ids(text: str, special: bool = True) -> Ids:
        return tuple(known.encode(text, add_special_tokens=special))

    return ids


def _steps_by_task(run: TrainingRun) -> Counter[str]:
    """How many steps of the run ask each task."""
    settings = run.settings
    shares = settings.grpo_data or {settings.data: 1.0}
    size = settings.prompts_per_step
    plan = Plan(shares, size, settings.steps, settings.seed)
    return Counter(row.task for row in steps_of_queries(run.grpo_rows(), plan)[::size])
