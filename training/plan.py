"""`grape train --plan`: what a training would load, from where, and whether it fits."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from models.common import paths
from models.common.errors import GrapeError
from models.common.findings import (
    GIB,
    SPARE_DISK,
    Finding,
    disk,
    gpu_findings,
    looked_at,
    machine,
    memory,
    versions,
)
from models.common.hub import Lookup
from models.retriever.open import look_up_encoder, manifest_of, where_it_was
from models.rewriter.base_model import look_up
from training.settings import TrainSettings

_PROCESS_GIB = 2.0  # of the process, with the demo's encoder
_ENGINE_GIB = 2.9  # of vLLM besides its weights, with its cache of 1 GiB


def plan_of_training(settings: TrainSettings) -> Iterator[Finding]:
    """Looks at every part. Loads and fetches nothing but the rows."""
    found: dict[str, Lookup] = {}
    yield versions()
    yield machine()
    yield from gpu_findings()
    yield looked_at("data", partial(_data, settings))
    yield looked_at("index", partial(_index, settings))
    yield looked_at("encoder", partial(_encoder, settings, found))
    yield looked_at("base model", partial(_base, settings, found))
    yield Finding("work", "ok", _work(settings))
    yield looked_at("memory", partial(_memory, found))
    yield disk("disk", settings.work_folder, SPARE_DISK, "--work")
    if download := sum(one.download for one in found.values()):
        from huggingface_hub import constants

        yield disk("disk of the hub", Path(constants.HF_HUB_CACHE), download, "HF_HOME")


def _data(settings: TrainSettings) -> str:
    from training.data.sources import load_rows

    rows = [row for row in load_rows(settings.data) if row.task in settings.tasks]
    counts = Counter(row.split for row in rows)
    if not counts["train"] or not counts["validation"]:
        raise GrapeError(
            f"{settings.data} has {counts['train']} rows of the split 'train' and "
            f"{counts['validation']} of 'validation' for these tasks: both are needed."
        )
    told = ", ".join(f"{count:,} {split}" for split, count in sorted(counts.items()))
    return f"{settings.data}: {told}"


def _index(settings: TrainSettings) -> str:
    folder = settings.index or paths.index_dir()
    manifest = manifest_of(folder)
    return f"{manifest.count:,} pictures in {folder}, encoder {manifest.encoder}"


def _encoder(settings: TrainSettings, found: dict[str, Lookup]) -> str:
    name, tag = paths.ENCODER, None
    if settings.index is not None:
        name, tag = where_it_was(manifest_of(settings.index).encoder)
    found["encoder"] = look_up_encoder(name, tag)
    return f"{name}{f' ({tag})' if tag else ''}, {found['encoder']}"


def _base(settings: TrainSettings, found: dict[str, Lookup]) -> str:
    found["base model"] = look_up(settings.llm)
    return f"{settings.llm}, {found['base model']}"


def _work(settings: TrainSettings) -> str:
    rollouts = settings.prompts_per_step * settings.group_size
    rounds = settings.warm_start_rounds
    start = (
        f"{rounds} round{'s' if rounds > 1 else ''} of warm start" if settings.warm_start else ""
    )
    grpo = f"{settings.steps} steps of GRPO with {rollouts} rewrites each" if settings.steps else ""
    return " and ".join(filter(None, [start, grpo]))


def _memory(found: dict[str, Lookup]) -> str:
    """Of the machine. The stages come one after the other, so that the larger one counts."""
    weights = found["base model"].bytes / GIB if "base model" in found else 0.0
    # float32 of weights in bfloat16, once for the model and once for what is computed with it.
    parts = {"process": _PROCESS_GIB, "model": max(4 * weights, _ENGINE_GIB + 2 * weights)}
    if "encoder" in found:
        parts["encoder"] = found["encoder"].bytes / GIB
    return memory(parts, "name a smaller --llm, or end other programs.")
