"""Where the files of an open_clip model are: fetched by name, before open_clip asks for them.

open_clip would fetch each by itself, at whatever revision the hub has today, and tokenizer and text
tower from other repositories than the weights. Here everything is in a folder before it starts.
"""

import json
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import open_clip

from models.common import hub
from models.common.errors import InputError

HUB = "hf-hub:"
LOCAL = "local-dir:"
CONFIG = "open_clip_config.json"
_SAFE, _PICKLED = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"
_TOKENIZER = (
    "tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt",
    "*.model",
)  # fmt: skip
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")  # one of these is needed


class EncoderFiles(NamedTuple):
    """What open_clip loads.

    Attributes:
        model: open_clip's name, or ``local-dir:`` with a folder.
        weights: file of the weights, for a name.
        config: open_clip's ``model_cfg``.
        options: further arguments of ``create_model_from_pretrained``.
        tokenizer: folder of its tokenizer; None for open_clip's own.
        commit: of the repository of the weights on the hub.
    """

    model: str
    weights: str | None
    config: dict[str, Any]
    options: dict[str, Any]
    tokenizer: Path | None
    commit: str | None


def find_encoder(name: str, pretrained: str | None) -> EncoderFiles:
    """Finds the files of an encoder; downloads those that are not on this machine.

    Args:
        name: ``ViT-B-32``, ``hf-hub:OWNER/NAME`` (or with ``@REVISION``) or ``local-dir:/folder``.
        pretrained: for a plain name the tag of its weights (or with ``@REVISION``), or a file.

    Raises:
        InputError: no such model, tag, repository or file.
        GrapeError: the hub cannot be reached, or the download failed.
    """
    if name.startswith(LOCAL):
        return _in_folder(name, Path(name.removeprefix(LOCAL)), None)
    if name.startswith(HUB):
        folder = _with_weights(hub.parse(name.removeprefix(HUB)))
        return _in_folder(name, folder, hub.commit_of(folder))
    return _built_in(name, pretrained or "")


def repositories(name: str, pretrained: str | None) -> Iterator[tuple[hub.Repository, list[str]]]:
    """What :func:`find_encoder` would ask the hub for, as far as the names say it."""
    if name.startswith(HUB):
        yield hub.parse(name.removeprefix(HUB)), [CONFIG, _SAFE, *_TOKENIZER]
    elif not name.startswith(LOCAL) and not Path(pretrained or "").is_file():
        tag, _, revision = (pretrained or "").partition("@")
        repository, file = _repository(known_tag(name, tag), revision)
        yield repository, [file or _SAFE]
        yield from _other_repositories(_known_config(name))


def create(files: EncoderFiles) -> tuple[Any, Any, Any]:
    """Model, preprocessing and tokenizer, on the CPU."""
    model, preprocess = open_clip.create_model_from_pretrained(
        files.model, files.weights, device="cpu", **files.options
    )
    if files.tokenizer is None:
        return model, preprocess, open_clip.get_tokenizer(files.model)
    text = files.config["text_cfg"]
    tokenizer = open_clip.tokenizer.HFTokenizer(
        str(files.tokenizer),
        context_length=text.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH),
        tokenizer_mode=text.get("tokenizer_mode"),
        **text.get("tokenizer_kwargs", {}),
    )
    return model, preprocess, tokenizer


def known_tag(name: str, tag: str) -> dict[str, Any]:
    """open_clip's record of a tag.

    Raises:
        InputError: there is no such model or tag, or the model computes otherwise than the weights.
    """
    config = _known_config(name)
    found: dict[str, Any] = open_clip.get_pretrained_cfg(name, tag)
    if not found:
        tags = open_clip.list_pretrained_tags_by_model(name)
        close = get_close_matches(tag, tags, 1)
        hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(tags[:6]) or 'none'}."
        raise InputError(f"The encoder {name} has no weights {tag!r}: {hint}")
    if bool(found.get("quick_gelu")) is not bool(config.get("quick_gelu")):
        other = name.removesuffix("-quickgelu") if config.get("quick_gelu") else f"{name}-quickgelu"
        raise InputError(
            f"The weights {tag} do not fit the encoder {name}, whose activation is another one: "
            f"name it {other}."
        )
    return found


def _known_config(name: str) -> dict[str, Any]:
    config: dict[str, Any] | None = open_clip.get_model_config(name)
    if config is None:
        close = get_close_matches(name, open_clip.list_models(), 1)
        hint = f"did you mean {close[0]}" if close else f"is it a repository, {HUB}OWNER/NAME"
        raise InputError(f"open_clip has no model {name!r}: {hint}?")
    return config


def _built_in(name: str, pretrained: str) -> EncoderFiles:
    config = _known_config(name)
    options: dict[str, Any] = {}
    if Path(pretrained).is_file():
        weights, commit = Path(pretrained), None
    else:
        tag, _, revision = pretrained.partition("@")
        known = known_tag(name, tag)
        repository, file = _repository(known, revision)
        weights = _fetched(repository, [file] if file else [_SAFE, _PICKLED])
        commit = hub.commit_of(weights)
        options = {
            f"image_{key}": known[key]
            for key in ("mean", "std", "interpolation", "resize_mode")
            if key in known
        }
    options |= _text_tower(config)
    return EncoderFiles(name, str(weights), config, options, _tokenizer(config, None), commit)


def _repository(known: dict[str, Any], revision: str) -> tuple[hub.Repository, str]:
    """The repository of a tag, and the file in it; '' for the usual names."""
    name, _, file = known["hf_hub"].rpartition("/")
    return hub.Repository(name, revision or None), file


def _fetched(repository: hub.Repository, files: list[str]) -> Path:
    """The first of these files that the repository has."""
    for file in files:
        if (path := hub.fetch(repository, [file]) / file).is_file():
            return path
    raise InputError(f"{repository} has none of the weights {', '.join(files)}.")


def _with_weights(repository: hub.Repository) -> Path:
    """The folder of a repository that holds an open_clip model."""
    folder = hub.fetch(repository, [CONFIG, _SAFE, *_TOKENIZER])
    if not (folder / CONFIG).is_file():
        raise InputError(
            f"{repository} has no {CONFIG}, so that it is no model of open_clip: name another one."
        )
    if not (folder / _SAFE).is_file():
        _fetched(repository._replace(revision=hub.commit_of(folder)), [_PICKLED])
    return folder


def _in_folder(name: str, folder: Path, commit: str | None) -> EncoderFiles:
    try:
        config = json.loads((folder / CONFIG).read_bytes())["model_cfg"]
        options = _text_tower(config)
        tokenizer = _tokenizer(config, folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"The encoder {name} cannot be loaded: {folder / CONFIG} is not there, or is none."
        ) from error
    return EncoderFiles(f"{LOCAL}{folder}", None, config, options, tokenizer, commit)


def _text_tower(config: dict[str, Any]) -> dict[str, Any]:
    """The text tower of transformers, whose configuration open_clip would read from the hub."""
    text = config["text_cfg"]
    if (name := text.get("hf_model_name")) is None:
        return {}
    folder = _beside(name, ["config.json"])
    return {"text_cfg": {**text, "hf_model_name": str(folder), "hf_model_pretrained": False}}


def _tokenizer(config: dict[str, Any], folder: Path | None) -> Path | None:
    """The folder of a tokenizer of transformers: the model's own, or of the repository it names."""
    name = config["text_cfg"].get("hf_tokenizer_name")
    if not name:
        return None
    if folder and any(any(folder.glob(pattern)) for pattern in _TOKENIZERS):
        return folder
    return _beside(name, _TOKENIZER)


def _beside(name: str, patterns: Sequence[str]) -> Path:
    """The folder of a repository that an encoder's configuration names.

    An index records no commit of it. So the commit that was fetched first is kept, whatever the
    branch is today.
    """
    if Path(name).is_dir():
        return Path(name)
    repository = hub.parse(name)
    if folder := hub.cached(repository, patterns):
        repository = repository._replace(revision=hub.commit_of(folder))
    return hub.fetch(repository, patterns)


def _other_repositories(config: dict[str, Any]) -> Iterator[tuple[hub.Repository, list[str]]]:
    text = config["text_cfg"]
    if name := text.get("hf_model_name"):
        yield hub.parse(name), ["config.json"]
    if name := text.get("hf_tokenizer_name"):
        yield hub.parse(name), list(_TOKENIZER)
