"""Merging an adapter into a checkpoint, which is how a CPU serves it."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from models.common.errors import GrapeError
from models.common.files import new_folder
from models.rewriter.adapter import Adapter

_MERGED_KEPT = 6  # a checkpoint of a 270 M model takes about 1 GB


def merge_adapter(model: Path, adapter: Adapter, cache: Path) -> Path:
    """A checkpoint with the adapter merged into it, cached together with the last ones used.

    On a CPU, where vLLM has no Triton, an attached adapter is ten times slower than a merged one.

    Returns:
        Folder of the checkpoint. Its name contains the hashes of adapter and base model.

    Raises:
        GrapeError: the checkpoint cannot be written.
    """
    base = adapter.manifest.base_revision
    merged = merge_weights(model, adapter.folder, cache / f"{adapter.name}-on-{base[:12]}")
    os.utime(merged)
    _keep_last_used(cache)
    return merged


def merge_weights(model: Path, lora: Path, target: Path) -> Path:
    """Writes ``target``: the checkpoint ``model`` with the PEFT folder ``lora`` merged into it.

    A target that exists is returned as it is.

    Raises:
        GrapeError: it cannot be written.
    """
    if target.is_dir():
        return target
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging

    logging.disable_progress_bar()
    try:
        with new_folder(target) as folder:
            loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
            merged = PeftModel.from_pretrained(loaded, str(lora)).merge_and_unload()
            merged.save_pretrained(folder)
            AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    except OSError as error:
        raise GrapeError(f"The adapter could not be merged into {target}: {error}") from error
    return target


def _keep_last_used(cache: Path) -> None:
    """Deletes the other checkpoints. Merging one again takes seconds."""
    used = {}
    for merged in cache.glob("[!.]*-on-*"):
        with suppress(FileNotFoundError):  # another process may delete it now
            used[merged] = merged.stat().st_mtime
    for merged in sorted(used, key=lambda path: used[path], reverse=True)[_MERGED_KEPT:]:
        shutil.rmtree(merged, ignore_errors=True)
