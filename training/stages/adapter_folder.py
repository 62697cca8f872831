"""The adapter folder that a run leaves: PEFT's files in fp16, grape.json, and a model card."""

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from models.common.errors import GrapeError
from models.common.files import new_folder
from models.rewriter.adapter import (
    CONFIG,
    GRAPE_JSON,
    WEIGHTS,
    AdapterManifest,
    Canary,
    open_adapter,
)
from models.search import normalise
from training.rerank_settings import RerankSettings
from training.retriever_settings import RetrieverSettings
from training.settings import TrainSettings
from training.stages.language_model import LanguageModel, greedy_answers
from training.stages.learning_curve import LearningCurve
from training.stages.sft import LOSSES
from training.stages.training_run import TrainingRun

_CANARIES = 8  # of each task
_PACKAGES = ("torch", "transformers", "peft", "trl", "open_clip_torch", "faiss-cpu")
_LOSSES_SHOWN = 10
_REWRITES = (
    "Rewrites queries into captions that a frozen CLIP encoder understands. Trained by",
    "`grape train`; serve it with `grape serve --adapter FOLDER`, or with PEFT or vLLM.",
)
_RERANKS = (
    "Reranks what a search finds: it says how well each caption fits a query. Trained by",
    "`grape train`; serve it with `grape serve --rerank-adapter FOLDER`.",
)
_NOT_ON_THE_CARD = {
    "config", "debug", "plan", "start_from", "out", "work", "index", "dry_run", "resume",
    "vllm_server",
}  # fmt: skip
_OF_RERANKERS = RerankSettings.model_fields.keys() - RetrieverSettings.model_fields.keys()
# Training by likelihood has one stage, and these are all that it reads.
_OF_LIKELIHOOD = {
    "encoder_device", "encoder_precision", "llm", "seed", *_OF_RERANKERS, "data", "tasks", "prompt",
    "warm_start_queries", "warm_start_epochs", "warm_start_learning_rate", "warm_start_batch",
    "lora_rank", "lora_alpha", "lora_targets", "test_queries",
}  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """What the stages of a run made."""

    adapter: Path  # folder of the PEFT adapter
    sft_examples: int = 0
    curve: LearningCurve = field(default_factory=LearningCurve)  # of GRPO


@dataclass(frozen=True)
class HeldOutResult:
    """What the test split says about a finished adapter."""

    before: Mapping[str, float]  # R@10 of the frozen model, by slice
    after: Mapping[str, float]  # R@10 with the adapter
    summary: str  # Markdown


def write_adapter(
    run: TrainingRun, trained: Trained, asked: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Writes the adapter folder, whole or not at all.

    The metrics are added by :func:`add_test` after the test.

    Args:
        asked: by task what the canaries are taken from; by default the validation queries.

    Raises:
        GrapeError: the adapter changes no answer.
    """
    out = run.settings.out
    with new_folder(out, replace=True) as folder:
        _write_peft_files(trained.adapter, folder, run.base.name)
        manifest = _manifest(run, _canaries(run, folder, asked or _validation_queries(run)))
        (folder / GRAPE_JSON).write_text(manifest.model_dump_json(indent=2) + "\n")
        (folder / "README.md").write_text(card(run.settings, run.base, trained))


def add_test(run: TrainingRun, trained: Trained, test: HeldOutResult) -> None:
    """Adds the result of the test to grape.json and to the model card."""
    out = run.settings.out
    path = out / GRAPE_JSON
    manifest = AdapterManifest.model_validate_json(path.read_bytes())
    filled = manifest.model_copy(
        update={"metrics_before": dict(test.before), "metrics_after": dict(test.after)}
    )
    path.write_text(filled.model_dump_json(indent=2) + "\n")
    (out / "README.md").write_text(card(run.settings, run.base, trained, test))


def _write_peft_files(trained: Path, folder: Path, base_name: str) -> None:
    weights = load_file(trained / WEIGHTS)
    save_file(
        {name: value.half().contiguous() for name, value in weights.items()}, folder / WEIGHTS
    )
    (folder / WEIGHTS).chmod(0o644)
    config = json.loads((trained / CONFIG).read_text())
    config["base_model_name_or_path"] = base_name  # not a path of this machine
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _manifest(run: TrainingRun, canaries: list[Canary]) -> AdapterManifest:
    if all(canary.base == canary.tuned for canary in canaries):
        raise GrapeError(
            "The trained adapter changes no answer: give it more --steps or a higher "
            "--learning-rate. Nothing was written."
        )
    index = run.scorer.retriever.index.manifest
    return AdapterManifest(
        base_model=run.base.name,
        base_revision=run.base.revision,
        base_commit=run.base.commit,
        tasks={name: task.hash for name, task in run.tasks.items()},
        chat_template=run.chat.digest if run.chat else None,
        encoder=index.encoder.name.rsplit("/", 1)[-1],
        encoder_weights_sha256=index.encoder.weights_sha256,
        corpus_sha256=index.ids_sha256,
        reward=_reward(run.settings),
        seed=run.settings.seed,
        started_from=_started_from(run.settings, run.base),
        normalisation=normalise.version(),
        versions={name: importlib.metadata.version(name) for name in _PACKAGES},
        metrics_before={},
        metrics_after={},
        canaries=canaries,
    )


def _reward(settings: TrainSettings) -> dict[str, float]:
    """What training maximised; the objective of the mixture uses no reward."""
    if _by_likelihood(settings):
        return {"listwise": 1.0, "own_likelihood": settings.own_likelihood}
    if settings.task == "rewrite" and settings.objective == "mixture" and settings.steps:
        return {"mixture": 1.0}
    return dict(settings.rewards)


def _by_likelihood(settings: TrainSettings) -> bool:
    return settings.task == "rerank" and settings.rerank_by == "likelihood"


def _validation_queries(run: TrainingRun) -> dict[str, list[str]]:
    rows = run.validation_rows()
    return {name: [row.asked for row in rows if row.task == name] for name in run.tasks}


def _canaries(run: TrainingRun, folder: Path, asked: Mapping[str, Sequence[str]]) -> list[Canary]:
    """A few queries of each task with the greedy answers of both models."""
    model, tokenizer = run.base.load(), run.base.tokenizer()
    canaries = []
    tuned_model: torch.nn.Module = PeftModel.from_pretrained(model, str(folder))
    for name, task in run.tasks.items():
        queries = asked[name][:_CANARIES]
        prompts = [task.prompt(query) for query in queries]
        tuned = greedy_answers(tuned_model, tokenizer, prompts, task.max_tokens)
        with tuned_model.disable_adapter():  # type: ignore[operator]
            before = greedy_answers(tuned_model, tokenizer, prompts, task.max_tokens)
        canaries += [
            Canary(task=name, query=q, base=b, tuned=t)
            for q, b, t in zip(queries, before, tuned, strict=True)
        ]
    return canaries


def _started_from(settings: TrainSettings, base: LanguageModel) -> str | None:
    return open_adapter(settings.start_from, base.revision).name if settings.start_from else None


def card(
    settings: TrainSettings,
    base: LanguageModel,
    trained: Trained,
    test: HeldOutResult | None = None,
) -> str:
    """The model card: data, settings, loss, validation curve, test; Markdown."""
    sections = [
        _introduction(settings, base, trained),
        _settings_table(settings),
        _loss_table(settings),
        trained.curve.tables(),
    ]
    if test:
        sections.append(f"**Test split**, held-out pictures\n\n{test.summary}")
    return "\n\n".join(filter(None, sections)) + "\n"


def _introduction(settings: TrainSettings, base: LanguageModel, trained: Trained) -> str:
    source = "samples or the row's own English" if settings.warm_start_english else "samples"
    warm_start = f"{trained.sft_examples} best-ranked {source}" if settings.warm_start else "none"
    about = _RERANKS if settings.task == "rerank" else _REWRITES
    title = f"# Adapter of {base.name}: {', '.join(settings.tasks)}"
    if settings.task == "rerank":
        how = "by likelihood" if _by_likelihood(settings) else "in groups"
        title = f"# Reranker of {base.name}, {how}"
    lines = [title, "", *about, ""]
    if settings.task == "rerank":
        learnt = f"{trained.sft_examples} queries with what their search finds"
        lines.append(f"**Data**: `{settings.data}`, {learnt}.")
    else:
        lines.append(f"**Data**: `{settings.data}`. **Warm start**: {warm_start}.")
    if started_from := _started_from(settings, base):
        lines.append(f"**Continued from**: `{started_from}`.")
    return "\n".join(lines)


def _settings_table(settings: TrainSettings) -> str:
    unused = set() if settings.task == "rerank" else _OF_RERANKERS
    used = _OF_LIKELIHOOD if _by_likelihood(settings) else None
    shown = settings.model_dump(mode="json", include=used, exclude=_NOT_ON_THE_CARD | unused)
    rows = [f"| {name} | {value} |" for name, value in shown.items()]
    return "\n".join(["**Settings**", "", "| setting | value |", "|---|---|", *rows])


def _loss_table(settings: TrainSettings) -> str:
    """About ten points of the loss, of the warm start's last round; empty without SFT."""
    by_likelihood = _by_likelihood(settings)
    folder = "likelihood" if by_likelihood else "warm_start*"
    title = "**Training**, loss" if by_likelihood else "**Warm start**, loss of the answers' tokens"
    files = sorted(settings.work_folder.glob(f"{folder}/{LOSSES}"))
    curve = json.loads(files[-1].read_text()) if files else []
    if not curve:
        return ""
    points = curve[:: max(1, len(curve) // _LOSSES_SHOWN)]
    return "\n".join(
        [
            title,
            "",
            "| step | " + " | ".join(str(step) for step, _ in points) + " |",
            "|---" * (len(points) + 1) + "|",
            "| loss | " + " | ".join(f"{loss:.2f}" for _, loss in points) + " |",
        ]
    )
