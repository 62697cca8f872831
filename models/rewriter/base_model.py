"""Base models by their name on the hub."""

from pathlib import Path

from models.common.errors import InputError

_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")


def hub_checkpoint(name: str) -> Path:
    """The folder of a model that is named on the hub, fetched where the hub's cache has it not.

    An adapter must be compared with the weights themselves, so it needs them as files.

    Raises:
        InputError: no such model, or no way to it.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"The base model {name} is not to be had: {reason}") from error
