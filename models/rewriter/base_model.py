"""Base models: where a checkpoint is, which revision it has, and which adapter is its default."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from models.common import hub, paths
from models.common.errors import InputError
from models.retriever.address import IndexPlace

FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")  # of a model on the hub


class BaseModel(NamedTuple):
    """A base model that is on this machine."""

    name: str  # the user's name for it, without a revision
    folder: Path
    commit: str | None = None  # on the hub


def find_checkpoint(name: str) -> Path:
    """The folder of a base model, downloaded from the hub if it is not on this machine.

    Args:
        name: a demo model's name, a folder, or ``OWNER/NAME`` or ``OWNER/NAME@REVISION`` on the
            hub.

    Raises:
        InputError: a demo model that is not prepared, or a name that the hub does not have.
        GrapeError: the hub cannot be reached, or the download failed.
    """
    return find_base_model(name).folder


def find_base_model(name: str) -> BaseModel:
    """The same, with what an adapter records of it."""
    if folder := local_checkpoint(name):
        # An adapter must not reveal the folders of whoever trained it.
        return BaseModel(folder.name if folder == Path(name) else name, folder)
    repository = hub.parse(name)
    folder = hub.fetch(repository, FILES)
    return BaseModel(repository.name, folder, hub.commit_of(folder))


def look_up(name: str) -> hub.Lookup:
    """Where a base model is, its size, and what would be downloaded. Fetches nothing.

    Raises:
        InputError: a demo model that is not prepared, or a name that the hub does not have.
        GrapeError: it must be downloaded, and the hub cannot be reached.
    """
    if folder := local_checkpoint(name):
        weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        return hub.Lookup(folder, weights, 0)
    return hub.look_up(hub.parse(name), FILES)


def present_checkpoint(name: str) -> Path | None:
    """The folder of a base model that is on this machine; None for one that must be downloaded.

    Asks nobody.

    Raises:
        InputError: a demo model that is not prepared, or what cannot be a name.
    """
    return local_checkpoint(name) or hub.cached(hub.parse(name), FILES)


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
        raise InputError(
            f"There are no safetensors weights in {hub.shown(str(checkpoint))}: name a model that "
            "has them."
        )
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
