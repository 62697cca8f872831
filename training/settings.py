"""Every setting of `grape train`, each of them a flag, a YAML key and a GRAPE_... variable."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from models.rewriter.tasks import TaskName
from training.rerank_settings import RATED, RerankSettings

Objective = Literal["mixture", "rank", "relative", "pass_at_k"]
Rollouts = Literal["auto", "grouped", "transformers", "vllm-colocate", "vllm-server"]
Loss = Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"]


class TrainSettings(RerankSettings):
    """What to train, on which data, and how; the defaults suit the demo on two CPU cores."""

    model_config = SettingsConfigDict(extra="forbid")

    data: str = Field(
        "demo",
        description="a JSONL, CSV or parquet file, a data set on the hub, 'demo' or 'demo-all'",
    )
    tasks: list[TaskName] = Field(
        ["multilingual", "long"], min_length=1, description="kinds of queries to train for"
    )
    prompt: Literal["short", "examples"] = Field(
        "short",
        description="prompt that the adapter is trained and served on; 'short' has no examples",
    )
    out: Path = Field(Path("adapter"), description="adapter folder to write; must be new or empty")
    work: Path | None = Field(
        None, description="folder for samples and checkpoints; OUT.work by default"
    )
    dry_run: bool = Field(False, description="only report the possible gain")
    resume: bool = Field(False, description="continue from the last checkpoint in the work folder")

    samples: int = Field(
        5, ge=1, le=64, description="rewrites sampled for each query, besides a greedy one"
    )
    sample_temperature: float = Field(0.8, gt=0, description="temperature of that sampling")
    dry_run_queries: int = Field(64, ge=1, description="queries of each task for --dry-run")

    warm_start: bool = Field(True, description="SFT on the best-ranked samples before GRPO")
    warm_start_rounds: int = Field(
        1,
        ge=1,
        le=8,
        description="rounds of sampling and SFT; each samples from the model that the previous one "
        "trained",
    )
    start_from: Path | None = Field(
        None,
        description="adapter folder to continue from, instead of new weights; without warm_start "
        "GRPO continues from it",
    )
    warm_start_queries: dict[TaskName, int] = Field(
        {"multilingual": 3600, "long": 256, "composed": 1000},
        description="training queries of a round, by task",
    )
    warm_start_english: list[TaskName] = Field(
        [],
        description="tasks in which a row's own `english` is a candidate next to its samples, or "
        "the only one if sampling ran out of time",
    )
    warm_start_minutes: float | None = Field(
        None,
        ge=0,
        description="time limit of a round's sampling; by default none. 0 samples nothing: only "
        "rows of warm_start_english are learnt from",
    )
    warm_start_rank: int = Field(
        20, ge=1, description="worst rank of a sample that SFT learns from"
    )
    warm_start_epochs: float = Field(2.0, gt=0, description="epochs of SFT over the chosen samples")
    warm_start_learning_rate: float = Field(3e-4, gt=0, description="peak learning rate of SFT")
    warm_start_batch: int = Field(32, ge=1, description="batch size of SFT")

    lora_rank: int = Field(16, ge=1, description="rank of the LoRA adapter")
    lora_alpha: int = Field(32, ge=1, description="LoRA alpha: scale of the adapter times its rank")
    lora_targets: list[str] = Field(
        ["all-linear"], min_length=1, description="layers that get an adapter"
    )

    steps: int = Field(20, ge=0, description="GRPO steps; 0 ends after the warm start")
    grpo_data: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {},
        description="data sets that GRPO learns from instead of `data`, with their shares of the "
        "steps",
    )
    prompts_per_step: int = Field(32, ge=1, description="queries in a GRPO step")
    group_size: int = Field(
        8, ge=2, description="rewrites of each query, which are compared with each other"
    )
    micro_batch: int = Field(
        16, ge=1, description="rewrites in one backward pass; lower it to save memory"
    )
    groups: Literal["drawn", "likeliest"] = Field(
        "drawn",
        description="a query's rewrites: drawn from the policy, or its most probable ones, which "
        "are what is served; likeliest needs the objective mixture and rollouts grouped",
    )
    objective: Objective = Field(
        "mixture",
        description="what a group is trained for: the likelihood of its mixture, its rewards "
        "(rank), their order (relative), or the best reward of pass_k rewrites",
    )
    pass_k: int = Field(4, ge=1, description="k of the objective pass_at_k")
    learn_from: int | None = Field(
        None,
        ge=2,
        description="rewrites of a group that GRPO learns from, those that differ most; by default "
        "all",
    )
    sampling_rounds: int = Field(
        1,
        ge=1,
        le=16,
        description="rounds of sampling in a step (Reinforce-Ada): each draws a group again for "
        "the queries whose rewrites are all good or all bad; not with vLLM",
    )
    good_rank: int = Field(
        10,
        ge=1,
        description="worst rank of a good rewrite, for sampling_rounds and difficulty_draws",
    )
    difficulty_draws: int | None = Field(
        None,
        ge=2,
        le=64,
        description="rewrites drawn for each query before GRPO, which leaves out queries whose "
        "rewrites are all good or all bad; by default no query is left out",
    )
    tau: float | None = Field(
        None,
        gt=0,
        description="temperature of the mixture; by default that of serving without a fit",
    )
    rank_among: Literal["training", "all"] = Field(
        "training",
        description="pictures that GRPO ranks a target among: all, or all but the targets of "
        "held-out rows. Above exact_up_to pictures always all",
    )
    rewards: dict[str, float] = Field(
        {"rank_log": 1.0, "format": 0.2},
        min_length=1,
        description="weights of the rewards, by name; the objective mixture only logs them. A "
        "reranker has its own",
    )
    cut_rank: int | None = Field(
        None,
        ge=1,
        description="worst rank that is rewarded, for all objectives but mixture; by default any",
    )
    scale_advantages: Literal["none", "group", "batch"] = Field(
        "none", description="whose standard deviation the advantages are divided by"
    )
    loss: Loss = Field("dapo", description="TRL's loss_type")
    learning_rate: float = Field(6e-5, gt=0, description="peak learning rate of GRPO")
    learning_rate_schedule: Literal["constant", "cosine"] = Field(
        "cosine", description="the learning rate after the first two steps, which warm it up"
    )
    beta: float = Field(0.05, ge=0, description="weight of the KL term to the model before GRPO")
    entropy_floor: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of the entropy of the first steps (as many as validation_every); below "
        "it the loss rewards entropy. By default none",
    )
    temperature: float = Field(1.0, gt=0, description="sampling temperature of the rollouts")
    max_grad_norm: float = Field(0.5, gt=0, description="gradient clipping norm")
    average_weights_from: int | None = Field(
        None,
        ge=1,
        description="step from which validated adapters are averaged; the mean is one more "
        "candidate for the best",
    )
    rollouts: Rollouts = Field(
        "auto",
        description="engine of the rollouts; auto: vllm-colocate on a GPU with vLLM; otherwise, "
        "for groups 'likeliest' and with sampling_rounds grouped",
    )
    vllm_server: str | None = Field(
        None, description="URL of `trl vllm-serve`, for rollouts 'vllm-server'"
    )
    vllm_gpu_memory: float = Field(
        0.3, gt=0, le=1, description="vLLM's share of the GPU memory, if colocated"
    )

    validation_queries: dict[TaskName, int] = Field(
        {"multilingual": 130, "long": 40, "composed": 100},
        description="validation queries of each data set, by task; a fixed sample",
    )
    validation_every: int = Field(5, ge=1, description="steps between two validations")
    patience: int = Field(
        4,
        ge=1,
        description="validations without a better held-out log-likelihood before training stops",
    )
    save_every: int = Field(5, ge=1, description="steps between two checkpoints")
    test_queries: dict[TaskName, int] = Field(
        {"multilingual": 2600, "long": 300, "composed": 800},
        description="test queries for the model card, by task; {} skips the test",
    )

    @model_validator(mode="before")
    @classmethod
    def _rewards_of_the_task(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {"rewards": RATED, **values} if values.get("task") == "rerank" else values

    @field_validator("rewards")
    @classmethod
    def _known_rewards(cls, value: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        from difflib import get_close_matches

        from training.rewards.ratings import RATING_REWARDS
        from training.rewards.rewards import REWARDS

        known = RATING_REWARDS if info.data.get("task") == "rerank" else REWARDS
        for name in value:
            if name not in known:
                close = get_close_matches(name, known, 1) or [", ".join(known)]
                raise ValueError(f"there is no reward {name!r}; did you mean {close[0]}")
        return value

    @model_validator(mode="after")
    def _whole_batches(self) -> "TrainSettings":
        completions = self.prompts_per_step * self.group_size
        if completions % self.micro_batch:
            raise ValueError(
                f"micro_batch {self.micro_batch} must divide prompts_per_step x group_size, "
                f"which is {completions}"
            )
        if not self.warm_start and not self.steps:
            raise ValueError("neither warm_start nor steps: there is nothing to train")
        if self.rollouts == "vllm-server" and not self.vllm_server:
            raise ValueError("rollouts 'vllm-server' needs vllm_server, the server's URL")
        return self

    @model_validator(mode="after")
    def _fitting_objective(self) -> "TrainSettings":
        if self.objective == "pass_at_k" and self.pass_k > self.group_size:
            raise ValueError(f"pass_k {self.pass_k} must not exceed group_size {self.group_size}")
        if self.learn_from and self.learn_from > self.group_size:
            raise ValueError(
                f"learn_from {self.learn_from} must not exceed group_size {self.group_size}"
            )
        if self.groups == "likeliest" and (
            self.objective != "mixture" or self.rollouts not in ("auto", "grouped")
        ):
            raise ValueError("groups 'likeliest' needs objective 'mixture' and rollouts 'grouped'")
        if self.groups == "likeliest" and self.temperature != 1:
            raise ValueError("groups 'likeliest' needs temperature 1: nothing is drawn")
        if self.cut_rank and self.objective == "mixture":
            raise ValueError("cut_rank is for rewards, and objective 'mixture' learns from none")
        return self

    @model_validator(mode="after")
    def _fitting_rounds(self) -> "TrainSettings":
        if self.sampling_rounds == 1:
            return self
        if self.objective not in ("mixture", "rank"):
            raise ValueError("sampling_rounds needs objective 'mixture' or 'rank'")
        if self.groups != "drawn" or self.rollouts not in ("auto", "grouped"):
            raise ValueError("sampling_rounds needs groups 'drawn' and rollouts 'grouped'")
        if self.scale_advantages != "none":
            raise ValueError("sampling_rounds needs scale_advantages 'none'")
        if self.learn_from:
            raise ValueError("sampling_rounds chooses the rewrites itself: leave out learn_from")
        return self

    def of_tasks(self, counts: Mapping[TaskName, int]) -> dict[str, int | None]:
        """The counts of the tasks that are trained, in the order of ``tasks``."""
        return {task: counts[task] for task in self.tasks if task in counts}

    @property
    def work_folder(self) -> Path:
        """The folder for samples, checkpoints and logs."""
        return self.work or self.out.with_name(self.out.name + ".work")
