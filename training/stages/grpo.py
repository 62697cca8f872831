"""GRPO: TRL's trainer, given our prompts, and rewards from the ranking of the whole corpus."""

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
from training.stages.language_model import (
    LanguageModel,
    Tokenizer,
    greedy_answers,
    lora,
    newline_id,
)
from training.stages.monitor import Monitor, Validation
from training.stages.processes import processes
from training.stages.training_run import TrainingRun


class BatchReward:
    """A reward as TRL calls it. The rewards of a step share a scorer, which ranks the batch once.

    Args:
        logs_ranking: whether this reward logs the ranking, which one of a step's rewards does.
    """

    def __init__(self, reward: Reward, scorer: Scorer, logs_ranking: bool) -> None:
        self.__name__ = reward.name
        self._reward = reward
        self._scorer = scorer
        self._logs_ranking = logs_ranking

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
        if self._logs_ranking:
            ranking = rollout.rewritten
            log_metric("rank/mean", float(ranking.rank.mean()))
            log_metric("rank/r_at_10", recall_at(10, ranking))
            log_metric("similarity/target", float(ranking.positive.mean()))
            log_metric("similarity/random", float(ranking.random.mean()))
            log_metric("similarity/gap", float((ranking.positive - ranking.random).mean()))
        return values


def train_grpo(run: TrainingRun, start: Path | None) -> Monitor:
    """Runs GRPO. The best adapter by validation is in ``best`` of the work folder.

    Args:
        start: the PEFT adapter to begin with, and the reference of the KL term; None begins with a
            new adapter, and the base model is the reference.

    Raises:
        InputError: the processes cannot share a step evenly.
    """
    from transformers import PrinterCallback, set_seed
    from trl import GRPOTrainer

    settings = run.settings
    folder = settings.work_folder / "grpo"
    checkpoint = last_checkpoint(folder) if settings.resume else None
    set_seed(settings.seed)  # LoRA weights are random, and the trainer sets the seed only later
    tokenizer = run.base.tokenizer()
    # If KL is measured to a copy of the adapter, transformers restores only that copy from a
    # checkpoint. So the policy is loaded from the checkpoint here.
    policy, stops = _policy(run, tokenizer, checkpoint or start)
    monitor = _monitor(run, tokenizer)
    trainer = GRPOTrainer(
        model=policy,
        processing_class=tokenizer,
        reward_funcs=_rewards(run),
        train_dataset=_dataset(run),
        callbacks=[monitor],
        args=_config(run, folder, stops),
    )
    trainer.remove_callback(PrinterCallback)
    monitor.log = trainer.log
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.accelerator.wait_for_everyone()
    return monitor


def _policy(
    run: TrainingRun, tokenizer: Tokenizer, adapter: str | Path | None
) -> tuple[Any, list[int]]:
    """The base model with a trainable adapter, and the ids of the tokens that end a rewrite."""
    model = run.base.load()
    # A rewrite ends at the first newline; otherwise every rollout would use its full length.
    stops = [newline_id(tokenizer), *_as_list(model.generation_config.eos_token_id)]
    model.generation_config.eos_token_id = stops
    if adapter is None:
        return get_peft_model(model, lora(run.settings)), stops
    return PeftModel.from_pretrained(model, str(adapter), is_trainable=True), stops


def _monitor(run: TrainingRun, tokenizer: Tokenizer) -> Monitor:
    settings, rows = run.settings, run.validation_rows()
    return Monitor(
        settings.work_folder,
        lambda model: validate(model, tokenizer, run.tasks, rows, run.scorer),
        settings.validation_every,
        settings.patience,
    )


def _rewards(run: TrainingRun) -> list[BatchReward]:
    return [
        BatchReward(REWARDS[name], run.scorer, logs_ranking=position == 0)
        for position, name in enumerate(run.settings.rewards)
    ]


def _dataset(run: TrainingRun) -> Any:
    """The prompts in the order of training, with what the rewards need to know."""
    import datasets

    settings = run.settings
    rows = by_task(run.training_rows(), settings.prompts_per_step, settings.seed)
    return datasets.Dataset.from_list(
        [
            {
                "prompt": run.tasks[row.task].prompt(row.asked),
                "query": row.query,
                "targets": list(row.targets),
            }
            for row in rows
        ]
    )


def _config(run: TrainingRun, folder: Path, stops: list[int]) -> Any:
    """TRL's GRPOConfig."""
    from trl import GRPOConfig

    settings, on_gpu = run.settings, run.base.on_gpu
    return GRPOConfig(
        output_dir=str(folder),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.micro_batch,
        gradient_accumulation_steps=_passes(settings),
        num_generations=settings.group_size,
        max_completion_length=max(task.max_tokens for task in run.tasks.values()),
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
        shuffle_dataset=False,  # by_task has shuffled it
        gradient_checkpointing=False,
        bf16=on_gpu,
        use_cpu=not on_gpu,
        report_to=["tensorboard"],
        disable_tqdm=True,
        **_rollout_arguments(settings, run.base, stops),
    )


def _passes(settings: TrainSettings) -> int:
    """Backward passes of each process in a step."""
    passes = settings.prompts_per_step * settings.group_size // settings.micro_batch
    if passes % processes():
        raise InputError(
            f"{processes()} processes cannot share a step of {passes} backward passes: "
            "lower --micro-batch or raise --prompts-per-step."
        )
    return passes // processes()


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


def by_task(rows: Sequence[Row], size: int, seed: int) -> list[Row]:
    """Rows in random batches of ``size``, each of a single task.

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
    model: PeftModel,
    tokenizer: Tokenizer,
    tasks: Mapping[str, Task],
    rows: Sequence[Row],
    scorer: Scorer,
) -> Validation:
    """Greedy rewrites of the fixed sample, ranked in the whole corpus."""
    answers = [""] * len(rows)
    for name, task in tasks.items():
        places = [place for place, row in enumerate(rows) if row.task == name]
        prompts = [task.prompt(rows[place].asked) for place in places]
        written = greedy_answers(model, tokenizer, prompts, task.max_tokens)
        for place, answer in zip(places, written, strict=True):
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


def _as_list(ids: int | list[int] | None) -> list[int]:
    if ids is None:
        return []
    return ids if isinstance(ids, list) else [ids]
