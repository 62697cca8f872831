"""The adapter folder that a run leaves: PEFT's files in fp16, grape.json, and a model card."""

import importlib.metadata
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from models.common.errors import GrapeError
from models.retriever.manifest import IndexManifest
from models.rewriter.adapter import (
    CONFIG,
    GRAPE_JSON,
    WEIGHTS,
    AdapterManifest,
    Canary,
    open_adapter,
)
from models.rewriter.tasks import Task
from training.data.rows import Row
from training.evaluation.slices import Slice
from training.settings import TrainSettings
from training.stages.language_model import LanguageModel, greedy_answers
from training.stages.monitor import Monitor
from training.stages.warm_start import LOSSES

_CANARIES = 8
_PACKAGES = ("torch", "transformers", "peft", "trl", "open_clip_torch", "faiss-cpu")


@dataclass(frozen=True)
class Comparison:
    """The test split, slice by slice: searched as it is, by the frozen model, by the tuned one."""

    direct: list[Slice]
    frozen: list[Slice]
    tuned: list[Slice]
    notes: list[str]


def write_adapter(
    settings: TrainSettings,
    base: LanguageModel,
    tasks: dict[str, Task],
    trained: Path,
    rows: Sequence[Row],
    index: IndexManifest,
    monitor: Monitor | None,
    sft_examples: int,
) -> None:
    """Writes the folder beside and renames it into place; metrics are added when they are known."""
    beside = settings.out.with_name(f".{settings.out.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    half = {name: value.half().contiguous() for name, value in load_file(trained / WEIGHTS).items()}
    save_file(half, beside / WEIGHTS)
    (beside / WEIGHTS).chmod(0o644)
    config = json.loads((trained / CONFIG).read_text())
    config["base_model_name_or_path"] = base.name  # not a path of this machine
    (beside / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    manifest = AdapterManifest(
        base_model=base.name,
        base_revision=base.revision,
        tasks={name: task.hash for name, task in tasks.items()},
        encoder=index.encoder.name.rsplit("/", 1)[-1],
        encoder_weights_sha256=index.encoder.weights_sha256,
        corpus_sha256=index.ids_sha256,
        reward=dict(settings.rewards),
        seed=settings.seed,
        started_from=_started_from(settings, base),
        versions={name: importlib.metadata.version(name) for name in _PACKAGES},
        metrics_before={},
        metrics_after={},
        canaries=_canaries(base, beside, tasks, rows),
    )
    if all(canary.base == canary.tuned for canary in manifest.canaries):
        raise GrapeError(
            "The trained adapter changes no answer: give it more --steps or a higher "
            "--learning-rate. Nothing was written."
        )
    (beside / GRAPE_JSON).write_text(manifest.model_dump_json(indent=2) + "\n")
    (beside / "README.md").write_text(card(settings, base, monitor, sft_examples, None))
    shutil.rmtree(settings.out, ignore_errors=True)
    beside.rename(settings.out)


def add_metrics(
    settings: TrainSettings,
    base: LanguageModel,
    monitor: Monitor | None,
    sft_examples: int,
    compared: Comparison,
) -> None:
    """Fills in what the test split says."""
    path = settings.out / GRAPE_JSON
    manifest = AdapterManifest.model_validate_json(path.read_bytes())
    filled = manifest.model_copy(
        update={
            "metrics_before": {f"{s.name} R@10": round(s.r_at_10, 4) for s in compared.frozen},
            "metrics_after": {f"{s.name} R@10": round(s.r_at_10, 4) for s in compared.tuned},
        }
    )
    path.write_text(filled.model_dump_json(indent=2) + "\n")
    text = card(settings, base, monitor, sft_examples, compared)
    (settings.out / "README.md").write_text(text)


def _started_from(settings: TrainSettings, base: LanguageModel) -> str | None:
    return open_adapter(settings.start_from, base.revision).name if settings.start_from else None


def _canaries(
    base: LanguageModel, folder: Path, tasks: dict[str, Task], rows: Sequence[Row]
) -> list[Canary]:
    """Queries with both models' greedy answers; as many as there are tasks of each."""
    model, tokenizer = base.load(), base.tokenizer()
    found = []
    tuned_model: torch.nn.Module = PeftModel.from_pretrained(model, str(folder))
    for name, task in tasks.items():
        queries = [row.asked for row in rows if row.task == name][:_CANARIES]
        prompts = [task.prompt(query) for query in queries]
        tuned = greedy_answers(tuned_model, tokenizer, prompts, task.max_tokens)
        with tuned_model.disable_adapter():  # type: ignore[operator]
            before = greedy_answers(tuned_model, tokenizer, prompts, task.max_tokens)
        found += [
            Canary(task=name, query=q, base=b, tuned=t)
            for q, b, t in zip(queries, before, tuned, strict=True)
        ]
    return found


def card(
    settings: TrainSettings,
    base: LanguageModel,
    monitor: Monitor | None,
    sft_examples: int,
    compared: Comparison | None,
) -> str:
    """The model card: data, settings, curve, before and after by language."""
    started = _started_from(settings, base)
    taught = "samples or the row's own English" if settings.warm_start_english else "samples"
    lines = [
        f"# Adapter of {base.name}: {', '.join(settings.tasks)}",
        "",
        "Rewrites queries into captions that a frozen CLIP encoder knows. Made by `grape train`;",
        "`grape serve --adapter FOLDER` serves it, and any PEFT or vLLM does too.",
        "",
        f"**Data**: `{settings.data}`. **Warm start**: "
        + (f"{sft_examples} best-ranked {taught}." if settings.warm_start else "none."),
        *([f"**Went on from**: `{started}`."] if started else []),
        "",
        "**Settings**",
        "",
        "| setting | value |",
        "|---|---|",
    ]
    shown = settings.model_dump(mode="json")
    hidden = {"config", "debug", "start_from", "out", "work", "index", "dry_run", "resume"}
    hidden |= {"vllm_server"}
    lines += [f"| {name} | {value} |" for name, value in shown.items() if name not in hidden]
    if losses := _losses(settings):
        lines += ["", "**Warm start**, loss of the answers' tokens", ""]
        lines += ["| step | " + " | ".join(str(step) for step, _ in losses) + " |"]
        lines += ["|---" * (len(losses) + 1) + "|"]
        lines += ["| loss | " + " | ".join(f"{loss:.2f}" for _, loss in losses) + " |"]
    if monitor and monitor.curve:
        lines += ["", "**Validation**, greedy rewrites of a fixed sample", ""]
        lines += ["| step | R@1 | R@10 | mean rank | to target | to random | gap |"]
        lines += ["|---:|---:|---:|---:|---:|---:|---:|"]
        lines += [
            f"| {s.step} | {s.r_at_1:.3f} | {s.r_at_10:.3f} | {s.mean_rank:.0f} | {s.target:.3f} | "
            f"{s.random:.3f} | {s.gap:.3f} |"
            for s in monitor.curve
        ]
    if compared:
        lines += ["", "**Test split**, pictures that were no target in training", ""]
        lines += [table(compared), "", *compared.notes]
    return "\n".join(lines) + "\n"


def _losses(settings: TrainSettings) -> list[tuple[int, float]]:
    """About ten points of the last round's curve."""
    found = sorted(settings.work_folder.glob(f"warm_start*/{LOSSES}"))
    if not found:
        return []
    curve = json.loads(found[-1].read_text())
    return [tuple(point) for point in curve[:: max(1, len(curve) // 10)]]


def table(compared: Comparison) -> str:
    """Markdown: R@10 of each slice, with 95 % bootstrap intervals over queries."""
    lines = [
        "| | queries | direct R@10 | frozen LLM R@10 | tuned R@10 |",
        "|---|---:|---:|---:|---:|",
    ]
    for direct, frozen, tuned in zip(compared.direct, compared.frozen, compared.tuned, strict=True):
        cells = [f"{s.r_at_10:.3f} [{s.low:.3f}, {s.high:.3f}]" for s in (direct, frozen, tuned)]
        lines.append(f"| {direct.name} | {direct.queries} | {' | '.join(cells)} |")
    return "\n".join(lines)


def as_json(compared: Comparison) -> str:
    return json.dumps(asdict(compared), indent=2) + "\n"
