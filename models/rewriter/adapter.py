"""The adapter folder: PEFT files and grape.json; whether it fits, and whether it is really
applied.
"""

import hashlib
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError, model_validator

from models.common.errors import GrapeError, InputError
from models.rewriter.tasks import TASKS, Task

GRAPE_JSON = "grape.json"
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_MERGED_KEPT = 6  # a gigabyte each for a model of 270 M


class Canary(BaseModel, frozen=True):
    """A query with the greedy answers, unparsed, of the base model and of the adapter."""

    task: str
    query: str
    base: str
    tuned: str


class AdapterManifest(BaseModel, frozen=True):
    """``grape.json``, written by `grape train`."""

    base_model: str
    base_revision: str  # for a local checkpoint the hash of its weights
    tasks: dict[str, str] = Field(min_length=1)  # name -> hash of prompt and parser
    encoder: str
    encoder_weights_sha256: str
    corpus_sha256: str
    reward: dict[str, Any]
    seed: int
    started_from: str | None = None  # the adapter whose weights it went on from
    versions: dict[str, str]
    metrics_before: dict[str, float]
    metrics_after: dict[str, float]
    canaries: list[Canary] = Field(min_length=1)

    @model_validator(mode="after")
    def _canaries_are_of_its_tasks(self) -> "AdapterManifest":
        if strange := {canary.task for canary in self.canaries} - set(self.tasks):
            raise ValueError(f"a canary of {min(strange)!r}, which is none of its tasks")
        return self


class Adapter(BaseModel, frozen=True):
    """An adapter folder that was read and fits."""

    folder: Path
    manifest: AdapterManifest
    rank: int
    content_sha256: str

    @property
    def name(self) -> str:
        """Carries the content's hash: two contents never share a name, nor the engine's caches."""
        return f"{'-'.join(sorted(self.manifest.tasks))}-{self.content_sha256[:12]}"

    @property
    def tasks(self) -> dict[str, Task]:
        """Each task with the prompt that the adapter was trained on: in full, or the short one."""
        return {name: _task(name, digest) for name, digest in self.manifest.tasks.items()}


def open_adapter(folder: Path, base_revision: str | None, max_rank: int = 64) -> Adapter:
    """Reads an adapter folder and checks that it fits the base model and this version's prompts.

    Args:
        base_revision: of the base model that will carry it; see :func:`checkpoint_revision`. None
            when another server carries it: its canaries alone then prove it.
        max_rank: highest LoRA rank that the engine was started for.

    Raises:
        InputError: it does not fit; the sentence says why.
    """
    config, manifest = _read(folder)

    def refuse(reason: str) -> InputError:
        return InputError(f"The adapter {folder} cannot be served: {reason}.")

    rank = int(config.get("r", 0))
    if config.get("peft_type") != "LORA":
        raise refuse(f"it is of type {config.get('peft_type')!r}, and only LORA is served")
    if not 1 <= rank <= max_rank:
        raise refuse(f"its rank {rank} is over the limit of {max_rank}; raise --max-lora-rank")
    if config.get("modules_to_save"):
        raise refuse(f"it replaces whole modules ({config['modules_to_save']}), which LoRA serving "
                     "leaves out; train without modules_to_save")  # fmt: skip
    if base_revision is not None and manifest.base_revision != base_revision:
        raise refuse(f"it was trained on {manifest.base_model} {manifest.base_revision[:12]}, "
                     f"base model here is {base_revision[:12]}")  # fmt: skip
    for name, task_hash in manifest.tasks.items():
        if name not in TASKS:
            raise refuse(f"its task {name!r} is not one of {', '.join(sorted(TASKS))}")
        if task_hash not in (TASKS[name].hash, TASKS[name].short.hash):
            raise refuse(
                f"it was trained with another prompt or parser of {name!r}; train it again"
            )
    if all(canary.base == canary.tuned for canary in manifest.canaries):
        raise refuse("it changes no canary's answer, so nothing could prove that it is applied")
    return Adapter(folder=folder, manifest=manifest, rank=rank, content_sha256=content_hash(folder))


def content_hash(folder: Path) -> str:
    """sha256 over the files that make an adapter what it is."""
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS, GRAPE_JSON):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _task(name: str, task_hash: str) -> Task:
    task = TASKS[name]
    return task if task.hash == task_hash else task.short


def _read(folder: Path) -> tuple[dict[str, Any], AdapterManifest]:
    try:
        for name in (CONFIG, WEIGHTS, GRAPE_JSON):
            if not (folder / name).is_file():
                raise InputError(f"{folder} is not an adapter folder: {name} is missing.")
        config = json.loads((folder / CONFIG).read_text())
        return config, AdapterManifest.model_validate_json((folder / GRAPE_JSON).read_bytes())
    except (ValidationError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"The adapter {folder} cannot be read ({reason}).") from error


def unapplied_canaries(adapter: Adapter, answers: list[str]) -> list[str]:
    """Queries whose answer shows the base model where the manifest says the adapter differs.

    Args:
        answers: what is served for the manifest's canaries, unparsed, in order.
    """
    return [
        canary.query
        for canary, answer in zip(adapter.manifest.canaries, answers, strict=True)
        if canary.base != canary.tuned and answer.strip() == canary.base.strip()
    ]


def checkpoint_revision(model: Path) -> str:
    """sha256 over the weight files of a local checkpoint, by name and content."""
    digest = hashlib.sha256()
    files = sorted(model.glob("*.safetensors"))
    if not files:
        raise InputError(f"There are no safetensors weights in {model}.")
    for path in files:
        digest.update(path.name.encode())
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def merge_adapter(model: Path, adapter: Adapter, cache: Path) -> Path:
    """A checkpoint with the adapter merged into it, kept in ``cache`` beside the last ones used.

    On CPU vLLM computes an attached adapter ten times slower than a merged one (no Triton there).

    Returns:
        The checkpoint's folder; its name carries both contents' hashes.
    """
    base = adapter.manifest.base_revision
    merged = merge_weights(model, adapter.folder, cache / f"{adapter.name}-on-{base[:12]}")
    os.utime(merged)
    _forget_all_but_the_last_used(cache)
    return merged


def _forget_all_but_the_last_used(cache: Path) -> None:
    """What is deleted here is merged again, in seconds, when it is wanted."""
    used = {}
    for merged in cache.glob("[!.]*-on-*"):
        with suppress(FileNotFoundError):  # another process forgets at the same time
            used[merged] = merged.stat().st_mtime
    for merged in sorted(used, key=lambda path: used[path], reverse=True)[_MERGED_KEPT:]:
        shutil.rmtree(merged, ignore_errors=True)


def merge_weights(model: Path, lora: Path, target: Path) -> Path:
    """Writes ``target``, the checkpoint ``model`` with PEFT's folder ``lora`` merged into it."""
    if target.is_dir():
        return target
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging

    logging.disable_progress_bar()
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        merged = PeftModel.from_pretrained(loaded, str(lora)).merge_and_unload()
        merged.save_pretrained(beside)
        AutoTokenizer.from_pretrained(model).save_pretrained(beside)
        os.replace(beside, target)
    except OSError as error:
        raise GrapeError(f"The adapter could not be merged into {target}: {error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return target
