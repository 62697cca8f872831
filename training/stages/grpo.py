"""GRPO: TRL's trainer, fed with prompts and with rewards from the whole corpus' ranking."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model

from models.common.errors import InputError
from models.rewriter.tasks import Task
from training.data.rows import Row
from training.rewards.rewards import REWARDS, Reward
from training.rewards.scorer import Scorer, recall_at, searched
from training.settings import TrainSettings
from training.stages.checkpoints import last_checkpoint
from training.stages.language_model import LanguageModel, greedy_answers, lora, newline_id
from training.stages.monitor import Monitor, Validation
from training.stages.processes import processes


class BatchReward:
    """A reward as TRL calls it. All of a step's share one scorer, which ranks the batch once."""

    def __init__(self, reward: Reward, scorer: Scorer, tells: bool) -> None:
        self.__name__ = reward.name
        self._reward = reward
        self._scorer = scorer
        self._tells = tells  # the first reward logs what the ranking says

    def __call__(
        self,
        completions: list[str],
        query: list[str],
        targets: list[list[str]],
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float]:
        began = time.perf_counter()
        rollout = self._scorer.rollout(completions, query, targets)
        values = [float(value) for value in self._reward(rollout)]
        log_metric(f"seconds/{self.__name__}", time.perf_counter() - began)
        if self._tells:
            ranking = rollout.rewritten
            log_metric("rank/mean", float(ranking.rank.mean()))
            log_metric("rank/r_at_10", recall_at(10, ranking))
            log_metric("similarity/target", float(ranking.positive.mean()))
            log_metric("similarity/random", float(ranking.random.mean()))
            log_metric("similarity/gap", float((ranking.positive - ranking.random).mean()))
        return values


def train_grpo(
    settings: TrainSettings,
    base: LanguageModel,
    tasks: Mapping[str, Task],
    rows: Sequence[Row],
    validation: Sequence[Row],
    scorer: Scorer,
    start: Path | None,
) -> Monitor:
    """Runs GRPO; the best adapter by validation lies in ``best`` of the work folder.

    Args:
        start: a PEFT adapter to begin with, which is also what KL is measured to; else the base
            model is.
    """
    import datasets
    from transformers import PrinterCallback, set_seed
    from trl import GRPOConfig, GRPOTrainer

    folder = settings.work_folder / "grpo"
    set_seed(settings.seed)  # the adapter begins at random numbers, before the trainer seeds
    model = base.load()
    tokenizer = base.tokenizer()
    # A rewrite ends at the first newline; without this every rollout runs to its full length.
    stops = [newline_id(tokenizer), *_as_list(model.generation_config.eos_token_id)]
    model.generation_config.eos_token_id = stops
    checkpoint = last_checkpoint(folder) if settings.resume else None
    # Where KL is measured to a copy of the adapter, transformers restores that copy from a
    # checkpoint and leaves the policy as it is here.
    begin = checkpoint or start
    policy = (
        PeftModel.from_pretrained(model, str(begin), is_trainable=True)
        if begin
        else get_peft_model(model, lora(settings))
    )
    monitor = Monitor(
        settings.work_folder,
        lambda trained: validate(trained, tokenizer, tasks, validation, scorer),
        settings.validation_every,
        settings.patience,
    )
    data = datasets.Dataset.from_list(
        [
            {
                "prompt": tasks[row.task].prompt(row.asked),
                "query": row.query,
                "targets": list(row.targets),
            }
            for row in by_task(rows, settings.prompts_per_step, settings.seed)
        ]
    )
    passes = settings.prompts_per_step * settings.group_size // settings.micro_batch
    if passes % processes():
        raise InputError(
            f"A step of {passes} backward passes cannot be shared by {processes()} processes: "
            "lower --micro-batch or raise --prompts-per-step."
        )
    trainer = GRPOTrainer(
        model=policy,
        processing_class=tokenizer,
        reward_funcs=[
            BatchReward(REWARDS[name], scorer, tells=position == 0)
            for position, name in enumerate(settings.rewards)
        ],
        train_dataset=data,
        callbacks=[monitor],
        args=GRPOConfig(
            output_dir=str(folder),
            max_steps=settings.steps,
            per_device_train_batch_size=settings.micro_batch,
            gradient_accumulation_steps=passes // processes(),
            num_generations=settings.group_size,
            max_completion_length=max(task.max_tokens for task in tasks.values()),
            temperature=settings.temperature,
            beta=settings.beta,
            learning_rate=settings.learning_rate,
            lr_scheduler_type="constant_with_warmup",
            warmup_steps=2,
            max_grad_norm=settings.max_grad_norm,
            reward_weights=list(settings.rewards.values()),
            logging_steps=1,
            save_steps=settings.save_every,
            save_total_limit=2,
            seed=settings.seed,
            shuffle_dataset=False,  # by_task has done it
            gradient_checkpointing=False,
            bf16=base.on_gpu,
            use_cpu=not base.on_gpu,
            report_to=["tensorboard"],
            disable_tqdm=True,
            **_rollout_arguments(settings, base, stops),
        ),
    )
    trainer.remove_callback(PrinterCallback)
    monitor.log = trainer.log
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.accelerator.wait_for_everyone()
    return monitor


def by_task(rows: Sequence[Row], size: int, seed: int) -> list[Row]:
    """Rows in random batches of one task each.

    A step is padded to its longest prompt: one description among names made it four times as long.
    """
    rng = random.Random(seed)
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.task, []).append(row)
    batches = []
    for group in groups.values():
        rng.shuffle(group)
        batches += [group[start : start + size] for start in range(0, len(group), size)]
    whole = [batch for batch in batches if len(batch) == size] or batches
    rng.shuffle(whole)
    return [row for batch in whole for row in batch]


def validate(
    model: PeftModel, tokenizer: Any, tasks: Mapping[str, Task], rows: Sequence[Row], scorer: Scorer
) -> Validation:
    """Greedy rewrites of the fixed sample, ranked in the whole corpus."""
    answers = [""] * len(rows)
    for name, task in tasks.items():
        places = [place for place, row in enumerate(rows) if row.task == name]
        prompts = [task.prompt(rows[place].asked) for place in places]
        for place, answer in zip(
            places, greedy_answers(model, tokenizer, prompts, task.max_tokens), strict=True
        ):
            answers[place] = answer
    texts = searched(answers, [row.query for row in rows])
    ranking = scorer.rank(texts, [row.targets for row in rows])
    return Validation(
        step=0,
        r_at_1=recall_at(1, ranking),
        r_at_10=recall_at(10, ranking),
        mean_rank=float(ranking.rank.mean()),
        target=float(ranking.positive.mean()),
        random=float(ranking.random.mean()),
        gap=float((ranking.positive - ranking.random).mean()),
    )


def _rollout_arguments(
    settings: TrainSettings, base: LanguageModel, stops: list[int]
) -> dict[str, Any]:
    how = settings.rollouts
    if how == "auto":
        how = "vllm-colocate" if base.on_gpu else "transformers"
    if how == "transformers":
        return {"use_vllm": False}
    return {
        "use_vllm": True,
        "vllm_mode": how.removeprefix("vllm-"),
        "vllm_server_base_url": settings.vllm_server,
        "vllm_gpu_memory_utilization": settings.vllm_gpu_memory,
        "generation_kwargs": {"stop_token_ids": stops},
    }


def _as_list(ids: int | list[int] | None) -> list[int]:
    if ids is None:
        return []
    return ids if isinstance(ids, list) else [ids]
