"""Base models: where a checkpoint is, which revision it has, and which adapter is its default."""

import hashlib
from pathlib import Path

from models.common import paths
from models.common.errors import InputError
from models.retriever.address import IndexPlace

_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")


def find_checkpoint(name: str) -> Path:
    """The folder of a base model, downloaded from the hub if it is not on this machine.

    Args:
        name: a demo model's name, a folder, or a name on the hub.

    Raises:
        InputError: a demo model that is not prepared, or a name that the hub does not have.
    """
    return local_checkpoint(name) or _hub_checkpoint(name)


def local_checkpoint(name: str) -> Path | None:
    """The folder of a demo model or of a model given as a folder. None for a name on the hub.

    Raises:
        InputError: a demo model that is not prepared.
    """
    if name not in paths.DEMO_LLM_NAMES:
        return Path(name) if Path(name).is_dir() else None
    checkpoint = paths.checkpoint_dir(name)
    if not checkpoint.is_dir():
        raise InputError(f"{name} is not prepared: run `grape demo prepare --llm {name}` first.")
    return checkpoint


def checkpoint_revision(checkpoint: Path) -> str:
    """sha256 over the names and contents of a checkpoint's weight files."""
    digest = hashlib.sha256()
    files = sorted(checkpoint.glob("*.safetensors"))
    if not files:
        raise InputError(f"There are no safetensors weights in {checkpoint}.")
    for path in files:
        digest.update(path.name.encode())
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def adapter_folder(adapter: str, llm: str, index: IndexPlace | None) -> Path | None:
    """The adapter folder that the setting ``adapter`` means.

    Args:
        adapter: a folder, 'none', or 'auto': the demo's own adapter if the demo's model meets the
            demo's gallery, and none otherwise.
        llm: name of the base model.
        index: index folder, or a collection. None means the demo gallery.
    """
    if adapter not in ("auto", "none"):
        return Path(adapter)
    is_demo = llm == paths.DEFAULT_LLM and index in (None, paths.index_dir())
    return paths.ADAPTER if adapter == "auto" and is_demo else None


def _hub_checkpoint(name: str) -> Path:
    """An adapter must be compared with the weights themselves, so they are needed as files."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"The base model {name} cannot be found: {reason}") from error
