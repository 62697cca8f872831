"""The adapter folder: PEFT files and grape.json. Whether it fits, and whether it is applied."""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError, model_validator

from models.common.errors import InputError
from models.rewriter.chat import ChatTemplate, PromptStyle
from models.rewriter.tasks import SERVED_TASKS, Task, in_style

GRAPE_JSON = "grape.json"
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


class Canary(BaseModel, frozen=True):
    """A query with the unparsed greedy answers of the base model and of the adapter."""

    task: str
    query: str
    base: str
    tuned: str


class AdapterManifest(BaseModel, frozen=True):
    """``grape.json``, written by `grape train`."""

    base_model: str
    base_revision: str  # hash of the checkpoint's weights
    base_commit: str | None = None  # on the hub, if the model came from there
    tasks: dict[str, str] = Field(min_length=1)  # name to hash of prompt and parser
    chat_template: str | None = None  # hash of the template of its prompts; None: plain completion
    encoder: str
    encoder_weights_sha256: str
    corpus_sha256: str
    reward: dict[str, Any]
    seed: int
    started_from: str | None = None  # the adapter that training continued from
    normalisation: str | None = None  # hash of the form of its queries; None: none is recorded
    versions: dict[str, str]
    metrics_before: dict[str, float]
    metrics_after: dict[str, float]
    canaries: list[Canary] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_canary_tasks(self) -> "AdapterManifest":
        if strange := {canary.task for canary in self.canaries} - set(self.tasks):
            raise ValueError(f"a canary of {min(strange)!r}, which is not one of its tasks")
        return self


class Adapter(BaseModel, frozen=True):
    """An adapter folder that fits."""

    folder: Path
    manifest: AdapterManifest
    rank: int
    content_sha256: str

    @property
    def name(self) -> str:
        """Contains a hash of the content, so different contents never share an engine's caches."""
        return f"{'-'.join(sorted(self.manifest.tasks))}-{self.content_sha256[:12]}"

    def prompt_style(self, asked: PromptStyle) -> PromptStyle:
        """How the model is asked beside the adapter: as that was trained, unless it is said.

        An adapter that was trained by chat needs the template in any case.
        """
        if self.manifest.chat_template is not None:
            return "chat"
        return "plain" if asked == "auto" else asked

    @property
    def tasks(self) -> dict[str, Task]:
        """Each task with the prompt that the adapter was trained on: the full or the short one.

        A prompt in the chat style still needs the template: see :meth:`tasks_with`.
        """
        return _trained_tasks(self.manifest)

    def tasks_with(self, chat: ChatTemplate | None) -> dict[str, Task]:
        """The same, with the template of the model that the adapter is applied to.

        Raises:
            InputError: it was trained with another template.
        """
        trained = self.manifest.chat_template
        if trained is None:
            return self.tasks
        if chat is None or chat.digest not in ("", trained):
            raise InputError(
                f"The adapter {self.folder} cannot be served: it was trained with another chat "
                "template than that of the base model here; train it again."
            )
        return in_style(self.tasks, chat)


def open_adapter(folder: Path, base_revision: str | None, max_rank: int = 64) -> Adapter:
    """Reads an adapter folder and checks that it fits the base model and this version's prompts.

    Args:
        base_revision: of the base model that it is applied to; see
            :func:`models.rewriter.base_model.checkpoint_revision`. None if another server applies
            it: then only its canaries prove that it fits.
        max_rank: highest LoRA rank that the engine accepts.

    Raises:
        InputError: it does not fit. The message says why.
    """
    config, manifest = _read(folder)

    def refuse(reason: str) -> InputError:
        return InputError(f"The adapter {folder} cannot be served: {reason}.")

    rank = int(config.get("r", 0))
    if config.get("peft_type") != "LORA":
        raise refuse(f"its type is {config.get('peft_type')!r}, but only LORA is served")
    if not 1 <= rank <= max_rank:
        raise refuse(f"its rank {rank} is over the limit of {max_rank}; raise --max-lora-rank")
    if config.get("modules_to_save"):
        raise refuse(f"it replaces whole modules ({config['modules_to_save']}), which LoRA serving "
                     "does not support; train without modules_to_save")  # fmt: skip
    if base_revision is not None and manifest.base_revision != base_revision:
        commit = manifest.base_commit
        pinned = f"; name it as --llm {manifest.base_model}@{commit}" if commit else ""
        raise refuse(f"it was trained on {manifest.base_model} {manifest.base_revision[:12]}, "
                     f"but the base model here is {base_revision[:12]}{pinned}")  # fmt: skip
    for name, task_hash in manifest.tasks.items():
        if name not in SERVED_TASKS:
            raise refuse(f"its task {name!r} is not one of {', '.join(sorted(SERVED_TASKS))}")
        if task_hash not in {task.hash for task in _forms(name, manifest)}:
            raise refuse(
                f"it was trained with another prompt or parser of {name!r}; train it again"
            )
    if all(canary.base == canary.tuned for canary in manifest.canaries):
        raise refuse("it changes no canary's answer, so nothing can prove that it is applied")
    return Adapter(folder=folder, manifest=manifest, rank=rank, content_sha256=content_hash(folder))


def content_hash(folder: Path) -> str:
    """sha256 over the files that define an adapter."""
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS, GRAPE_JSON):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _trained_tasks(manifest: AdapterManifest) -> dict[str, Task]:
    """The tasks of an adapter with the prompts that it was trained on."""
    return {
        name: next(task for task in _forms(name, manifest) if task.hash == digest)
        for name, digest in manifest.tasks.items()
    }


def _forms(name: str, manifest: AdapterManifest) -> list[Task]:
    """The prompts that an adapter may have been trained on."""
    task = SERVED_TASKS[name]
    if manifest.chat_template is not None:
        task = in_style({name: task}, ChatTemplate(manifest.chat_template))[name]
    return [task, task.short]


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
    """Queries that get the base model's answer although the adapter answers differently.

    Args:
        answers: unparsed answers to the manifest's canaries, in order.
    """
    return [
        canary.query
        for canary, answer in zip(adapter.manifest.canaries, answers, strict=True)
        if canary.base != canary.tuned and answer.strip() == canary.base.strip()
    ]
