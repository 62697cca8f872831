"""GRPO: TRL's trainer, given our prompts, and rewards from the ranking of the corpus."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from peft import PeftModel, get_peft_model

from models.common.errors import InputError
from models.common.progress import say
from models.search.mixture import Mixture
from training.data.rows import Row
from training.rewards.ranking import TEMPERATURE
from training.rewards.scorer import Scorer, of_mixture
from training.settings import TrainSettings
from training.stages.adaptive import Adaptive
from training.stages.batch_rewards import BatchRewards, batch_rewards, judge_of
from training.stages.checkpoints import last_checkpoint
from training.stages.decoding import Decoding
from training.stages.difficulty import DifficultyFilter
from training.stages.entropy_floor import EntropyFloor
from training.stages.grpo_queries import Plan, steps_of_queries
from training.stages.language_model import Tokenizer, answer_ends, lora, quick_dtype
from training.stages.memory import keep_freed_memory
from training.stages.merged_policy import MergedPolicy
from training.stages.monitor import Monitor
from training.stages.processes import passes_of, processes
from training.stages.rollouts import sample_groups
from training.stages.training_run import TrainingRun
from training.stages.validation import Validation, Validator


@dataclass(frozen=True)
class Policy:
    """What is trained."""

    model: Any  # the base model with a trainable adapter
    stops: list[int]  # ids of the tokens that end a rewrite
    sampler: MergedPolicy | None  # if the trainer is the grouped one


@dataclass(frozen=True)
class Course:
    """What a policy is asked, what its answers are paid for, and what it is worth meanwhile."""

    prompts: Any  # a ``datasets.Dataset`` in the order of training
    prompts_per_step: int
    rewards: BatchRewards
    validate: Callable[[Any], Validation]
    adaptive: Adaptive | None = None


def train_grpo(
    run: TrainingRun, start: Path | None, course_of: Callable[..., Course] | None = None
) -> Monitor:
    """Runs GRPO. The best adapter by validation is in ``best`` of the work folder.

    Args:
        start: the PEFT adapter to begin with, and the reference of the KL term; None begins with a
            new adapter, and the base model is the reference.
        course_of: makes the course of a run, a policy and a tokenizer; by default, of rewriting.

    Raises:
        InputError: the processes cannot share a step evenly, this model cannot be trained with
            these settings, or too few queries are of the right difficulty.
    """
    from transformers import PrinterCallback, set_seed

    settings = run.settings
    keep_freed_memory()
    folder = settings.work_folder / "grpo"
    checkpoint = last_checkpoint(folder) if settings.resume else None
    set_seed(settings.seed)  # LoRA weights are random, and the trainer sets the seed only later
    tokenizer = run.base.tokenizer()
    # If KL is measured to a copy of the adapter, transformers restores only that copy from a
    # checkpoint. So the policy is loaded from the checkpoint here.
    policy = load_policy(run, tokenizer, checkpoint or start)
    course = (course_of or rewriting)(run, policy, tokenizer)
    sampler = policy.sampler
    monitor = Monitor(settings, lambda m: course.validate(sampler.current() if sampler else m))
    trainer = _trainer(
        policy,
        settings,
        course,
        model=policy.model,
        processing_class=tokenizer,
        reward_funcs=course.rewards.functions,
        train_dataset=course.prompts,
        callbacks=[monitor, *_entropy_floor(settings)],
        args=_config(run, folder, policy, course),
    )
    trainer.remove_callback(PrinterCallback)
    monitor.log = trainer.log
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.accelerator.wait_for_everyone()
    monitor.validate_average(policy.model)
    return monitor


def load_policy(run: TrainingRun, tokenizer: Tokenizer, adapter: str | Path | None) -> Policy:
    """The base model with an adapter, or with a new one if there is none.

    Raises:
        InputError: the model cannot be trained with these settings.
    """
    from training.stages.grouped_trainer import cannot_group

    grouped = _engine(run) == "grouped"
    base = run.base.load(quick_dtype() if grouped else None)
    # A rewrite ends at the first newline; otherwise every rollout would use its full length.
    stops = answer_ends(base, tokenizer)
    base.generation_config.eos_token_id = stops
    if adapter is None:
        model: Any = get_peft_model(base, lora(run.settings))
    else:
        model = PeftModel.from_pretrained(base, str(adapter), is_trainable=True)
    if grouped and (reason := cannot_group(model)):
        if run.settings.groups == "likeliest":
            raise InputError(f"groups 'likeliest' cannot be found in {run.base.name}: {reason}.")
        if run.settings.sampling_rounds > 1:
            raise InputError(f"{run.base.name} cannot be sampled in rounds: {reason}.")
        say(f"{run.base.name} is trained by TRL's own, slower loop: {reason}.")
        return Policy(model if run.base.on_gpu else model.float(), stops, None)
    return Policy(model, stops, MergedPolicy(model) if grouped else None)


def _engine(run: TrainingRun) -> str:
    """The engine of the rollouts."""
    if run.settings.rollouts != "auto":
        return run.settings.rollouts
    if run.settings.groups == "likeliest" or run.settings.sampling_rounds > 1:
        return "grouped"
    return "vllm-colocate" if run.base.on_gpu and find_spec("vllm") else "grouped"


def _trainer(policy: Policy, settings: TrainSettings, course: Course, **arguments: Any) -> Any:
    from trl import GRPOTrainer

    from training.stages.grouped_trainer import GroupedTrainer

    if policy.sampler:
        likeliest = settings.groups == "likeliest"
        return GroupedTrainer(policy.sampler, likeliest, course.adaptive, **arguments)
    return GRPOTrainer(**arguments)


def rewriting(run: TrainingRun, policy: Policy, tokenizer: Tokenizer) -> Course:
    """The queries of a run, paid for by where their rewrites rank the right picture."""
    settings, scorer = run.settings, _training_scorer(run)
    adaptive = None
    if settings.sampling_rounds > 1:
        adaptive = Adaptive(settings.sampling_rounds, judge_of(settings, scorer))
    judge = Scorer(of_mixture(run.scorer.retriever, tau_of(run)))
    return Course(
        _dataset(run, _difficulty(run, policy, tokenizer, scorer)),
        settings.prompts_per_step,
        batch_rewards(settings, scorer),
        Validator(run.grpo_validation_rows(), run.tasks, judge, tokenizer, policy.stops),
        adaptive,
    )


def _entropy_floor(settings: TrainSettings) -> list[EntropyFloor]:
    if settings.entropy_floor is None:
        return []
    return [EntropyFloor(settings.entropy_floor, first=settings.validation_every)]


def _difficulty(
    run: TrainingRun, policy: Policy, tokenizer: Tokenizer, scorer: Scorer
) -> DifficultyFilter | None:
    """The filter of queries, if there is one; it draws from the policy as it is now."""
    settings, tokens = run.settings, cast(Any, tokenizer)
    draws = settings.difficulty_draws
    if draws is None:
        return None
    if processes() > 1:
        raise InputError("difficulty_draws works in one process: launch one, or leave it out.")

    def draw(rows: Sequence[Row]) -> list[list[str]]:
        most = max(run.tasks[row.task].max_tokens for row in rows)
        decoding = Decoding(most, tuple(policy.stops), tokens.pad_token_id, settings.temperature)
        model = policy.sampler.current() if policy.sampler else policy.model
        prompts = tokens([run.tasks[row.task].prompt(row.asked) for row in rows])["input_ids"]
        groups = sample_groups(model, prompts, draws, decoding)
        return [
            tokens.batch_decode([answer.ids for answer in group], skip_special_tokens=True)
            for group in groups
        ]

    if run.base.on_gpu:
        policy.model.to("cuda")  # the trainer would move it later
    file = settings.work_folder / "difficulty.jsonl"
    return DifficultyFilter(draw, judge_of(settings, scorer), file)


def _training_scorer(run: TrainingRun) -> Scorer:
    """Ranks rollouts."""
    settings, left_out = run.settings, set[str]()
    if settings.rank_among == "training":
        targets = {held: {t for row in run.all_rows() if (row.split != "train") == held
                          for t in row.targets} for held in (True, False)}  # fmt: skip
        left_out = targets[True] - targets[False]
    tau = tau_of(run) if settings.objective == "mixture" else TEMPERATURE
    return Scorer(of_mixture(run.scorer.retriever, tau, left_out))


def tau_of(run: TrainingRun) -> float:
    """The temperature of the mixture; by default as served without a fit."""
    return run.settings.tau or Mixture().temperature(run.scorer.retriever.encoder.temperature)


def _dataset(run: TrainingRun, difficulty: DifficultyFilter | None) -> Any:
    """The prompts in the order of training, with what the rewards need to know."""
    import datasets

    settings = run.settings
    shares = settings.grpo_data or {settings.data: 1.0}
    plan = Plan(shares, settings.prompts_per_step, settings.steps, settings.seed)
    rows = steps_of_queries(run.grpo_rows(), plan, difficulty)
    if difficulty:
        difficulty.tell()
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


def _config(run: TrainingRun, folder: Path, policy: Policy, course: Course) -> Any:
    """TRL's GRPOConfig."""
    from trl import GRPOConfig

    settings, on_gpu = run.settings, run.base.on_gpu
    schedules = {"constant": "constant_with_warmup", "cosine": "cosine"}
    return GRPOConfig(
        output_dir=str(folder),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.micro_batch,
        gradient_accumulation_steps=passes_of(settings, course.prompts_per_step),
        num_generations=settings.group_size,
        max_completion_length=max(task.max_tokens for task in run.tasks.values()),
        temperature=settings.temperature,
        beta=settings.beta,
        use_adaptive_entropy=settings.entropy_floor is not None,
        entropy_target=0.0,  # until EntropyFloor sets it
        loss_type=settings.loss,
        scale_rewards=settings.scale_advantages,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=schedules[settings.learning_rate_schedule],
        warmup_steps=2,
        max_grad_norm=settings.max_grad_norm,
        reward_weights=course.rewards.weights,
        logging_steps=1,
        save_steps=settings.save_every,
        save_total_limit=2,
        seed=settings.seed,
        shuffle_dataset=False,  # steps_of_queries has shuffled it
        gradient_checkpointing=False,
        bf16=on_gpu,
        use_cpu=not on_gpu,
        report_to=["tensorboard"],
        disable_tqdm=True,
        **_vllm_arguments(run, policy),
    )


def _vllm_arguments(run: TrainingRun, policy: Policy) -> dict[str, Any]:
    engine, settings = _engine(run), run.settings
    if not engine.startswith("vllm"):
        return {"use_vllm": False}
    return {
        "use_vllm": True,
        "vllm_mode": engine.removeprefix("vllm-"),
        "vllm_server_base_url": settings.vllm_server,
        "vllm_gpu_memory_utilization": settings.vllm_gpu_memory,
        "generation_kwargs": {"stop_token_ids": policy.stops},
    }
