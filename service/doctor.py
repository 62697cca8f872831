"""`grape doctor`: what `grape serve` would load with these settings, and whether that can work.

Nothing is loaded, fetched or changed. Memory is an estimate, and says so. `grape serve --plan` says
the same.
"""

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
from pydantic import Field

from models.common import paths
from models.common.errors import GrapeError, InputError
from models.common.findings import (
    GIB,
    SPARE_DISK,
    Finding,
    disk,
    gpu_findings,
    gpus,
    looked_at,
    machine,
    memory,
    tell,
    versions,
)
from models.common.hub import Lookup
from models.common.hub_progress import size
from models.retriever.address import MilvusAddress
from models.retriever.manifest import IndexManifest
from models.retriever.open import look_up_encoder, manifest_of, where_it_was
from models.rewriter.adapter import open_adapter
from models.rewriter.base_model import (
    adapter_folder,
    checkpoint_revision,
    local_checkpoint,
    look_up,
    present_checkpoint,
)
from models.rewriter.chat import has_template
from models.rewriter.vllm_engine import attaches_adapters
from service.listen import listen
from service.settings import Settings

# What a process takes besides its weights and its cache, from the demo's sizes in docs/deploy.md:
# 4 GiB of vLLM less twice the weights and a cache of 1 GiB, and 2 GiB of the server.
_ENGINE_GIB = 1.9
_SERVER_GIB = 2.0
_GPU_CACHE_GIB = 1.0  # of vLLM's key-value cache at least
_GPU_WORK_GIB = 1.0  # of the encoder besides its weights, and of CUDA itself
_TIMEOUT_S = 5.0


class Doctor(Settings):
    """Says what `grape serve` would load with the same flags, and whether it can work.

    Loads and fetches nothing. The exit code is 1 if something is wrong; the last line then says
    what to do first.
    """

    as_json: bool = Field(False, validation_alias="json", description="print JSON")

    def cli_cmd(self) -> None:
        tell(examine(self), self.as_json)


def examine(settings: Settings) -> Iterator[Finding]:
    """Looks at every part, in the order in which the server needs them."""
    yield versions()
    yield machine()
    yield from gpu_findings()
    looks = {
        "address": _address, "index": _index, "encoder": _encoder, "pictures": _pictures,
        "language model": _language_model, "hub": _hub, "adapter": _adapter,
    }  # fmt: skip
    if settings.feedback:
        looks["feedback"] = _feedback
    looks["memory"] = _memory
    if _on_gpu(settings):
        looks["GPU memory"] = _gpu_memory
    for part, look in looks.items():
        yield looked_at(part, partial(look, settings))
    yield disk("disk", paths.cache_dir(), SPARE_DISK, "GRAPE_CACHE")
    if download := sum(found.download for found in _found(settings).values()):
        from huggingface_hub import constants

        yield disk("disk of the hub", Path(constants.HF_HUB_CACHE), download, "HF_HOME")


def _address(settings: Settings) -> str:
    for opened in listen(settings):
        opened.close()
    return f"port {settings.port} of {settings.host} is free"


def _manifest(settings: Settings) -> IndexManifest:
    if settings.index is None and not paths.index_dir().is_dir():
        raise InputError("the demo's gallery is not there: run `grape demo prepare`.")
    return manifest_of(settings.index or paths.index_dir())


def _index(settings: Settings) -> str:
    manifest = _manifest(settings)
    folder = settings.index or paths.index_dir()
    if isinstance(folder, MilvusAddress):
        return (
            f"{manifest.count:,} pictures in {folder} ({manifest.factory}), encoder "
            f"{manifest.encoder}"
        )
    for file in (manifest.vectors, manifest.items):
        if not (folder / file.name).is_file():
            raise InputError(f"{folder / file.name} is missing: build the index again.")
    return (
        f"{manifest.count:,} pictures in {folder}, {size(manifest.vectors.bytes)} of vectors "
        f"({manifest.factory}), encoder {manifest.encoder}"
    )


def _named_encoder(settings: Settings) -> tuple[str, str | None]:
    """Name and tag of the encoder: of the settings, or of the index at the revision it has."""
    if settings.encoder:
        return settings.encoder, settings.pretrained
    if settings.index is None:
        return paths.ENCODER, None
    return where_it_was(_manifest(settings).encoder)


def _encoder(settings: Settings) -> str:
    """Whether its files are here. Only loading it shows whether it is the one of the index."""
    name, tag = _named_encoder(settings)
    return f"{name}{f' ({tag})' if tag else ''}, {look_up_encoder(name, tag)}"


def _feedback(settings: Settings) -> str:
    folder = settings.feedback
    assert folder
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InputError(f"--feedback {folder} cannot be written.")
    return f"kept in {folder}"


def _pictures(settings: Settings) -> str:
    folder = settings.pictures or _manifest(settings).pictures
    if folder is None:
        return "none: hits have no picture to show"
    if not Path(folder).is_dir():
        raise InputError(f"{folder} is not there: name where they are with --pictures.")
    return f"in {folder}"


def _language_model(settings: Settings) -> str:
    if settings.llm == "none":
        return "none: queries are searched as they are typed"
    if settings.llm_endpoint:
        return _endpoint(settings)
    found = look_up(settings.llm)
    return f"{settings.llm}, {_asked(settings, found)}{found}"


def _asked(settings: Settings, found: Lookup) -> str:
    """How the model is asked without an adapter; '' before its files are here."""
    if found.folder is None:
        return ""
    has = has_template(found.folder)
    if settings.prompt_style == "chat" and not has:
        raise InputError(f"{settings.llm} has no chat template: use --prompt-style plain.")
    chats = has and settings.prompt_style != "plain"
    return "asked in its chat template, " if chats else "asked in plain text, "


def _hub(settings: Settings) -> str:
    """Whether it answers, if something has a name there. Who needs it says that it is wrong."""
    from huggingface_hub import constants

    named = [_named_encoder(settings)[0]]
    if settings.llm != "none" and not settings.llm_endpoint and not local_checkpoint(settings.llm):
        named.append(settings.llm)
    if named[1:] == [] and named[0].startswith("local-dir:"):
        return "nothing that is named is there"
    if constants.HF_HUB_OFFLINE:
        return "switched off by HF_HUB_OFFLINE"
    try:
        httpx.head(constants.ENDPOINT, timeout=_TIMEOUT_S, follow_redirects=True)
    except httpx.HTTPError as error:
        return f"{constants.ENDPOINT} cannot be reached ({error}); what is here is used"
    return f"{constants.ENDPOINT} answers"


def _endpoint(settings: Settings) -> str:
    key = settings.llm_api_key
    headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
    address = f"{str(settings.llm_endpoint).rstrip('/')}/models"
    try:
        answer = httpx.get(address, headers=headers, timeout=_TIMEOUT_S)
    except httpx.HTTPError as error:
        raise GrapeError(f"{address} does not answer ({error}): start that server.") from error
    if answer.is_error:
        raise GrapeError(f"{address} answers {answer.status_code}: look at --llm-api-key.")
    return f"{settings.llm} at {settings.llm_endpoint}, which answers"


def _adapter(settings: Settings) -> str:
    if settings.llm_endpoint and settings.rerank_adapter:
        raise InputError("--rerank-adapter needs the model in this process, without an endpoint.")
    folders = [adapter_folder(settings.adapter, settings.llm, settings.index)]
    folders.append(settings.rerank_adapter)
    told = []
    for folder in filter(None, folders):
        adapter = open_adapter(folder, _revision(settings), settings.max_lora_rank)
        told.append(f"{adapter.name} for {', '.join(adapter.tasks)}")
    return "; ".join(told) or "none"


def _revision(settings: Settings) -> str | None:
    """Of the base model's weights, if it is here."""
    if settings.llm_endpoint or settings.llm == "none":
        return None
    try:
        folder = present_checkpoint(settings.llm)
    except InputError:  # which is told of the language model
        return None
    return checkpoint_revision(folder) if folder else None


def _found(settings: Settings) -> dict[str, Lookup]:
    """Encoder and language model, as far as they can be found."""
    found = {}
    with contextlib.suppress(GrapeError):  # which is told of the encoder
        found["encoder"] = look_up_encoder(*_named_encoder(settings))
    with contextlib.suppress(GrapeError):
        if settings.llm != "none" and not settings.llm_endpoint:
            found["vLLM"] = look_up(settings.llm)
    return found


def _memory(settings: Settings) -> str:
    """Of the machine's memory."""
    found = _found(settings)
    parts = {"server and encoder": _SERVER_GIB, "vectors": _manifest(settings).vectors.bytes / GIB}
    if "encoder" in found and not settings.encoder_device.startswith("cuda"):
        parts["server and encoder"] += found["encoder"].bytes / GIB
    if "vLLM" in found:
        engine = _ENGINE_GIB
        if not attaches_adapters():
            engine += 2 * found["vLLM"].bytes / GIB + settings.llm_kv_cache_gib
        parts["vLLM"] = engine
        if settings.rerank_adapter and not attaches_adapters():
            parts["vLLM of the reranker"] = engine
    return memory(parts, "name a smaller --llm, lower --llm-kv-cache-gib, or end other programs.")


def _on_gpu(settings: Settings) -> bool:
    serves = settings.llm != "none" and not settings.llm_endpoint
    return settings.encoder_device.startswith("cuda") or (serves and attaches_adapters())


def _gpu_memory(settings: Settings) -> str:
    """What vLLM and the encoder take of the first GPU: vLLM has the share that it is given."""
    there = gpus()
    if not there:
        raise GrapeError("there is no GPU here: use --encoder-device cpu and an --llm-endpoint.")
    found, total = _found(settings), there[0].total / GIB
    parts, share = [], 0.0
    if "vLLM" in found and attaches_adapters():
        share = settings.llm_gpu_memory * total
        needed = found["vLLM"].bytes / GIB + _GPU_CACHE_GIB
        parts.append(f"vLLM {needed:.1f} of its share of {share:.1f}")
        if needed > share:
            raise GrapeError(
                f"vLLM needs {needed:.1f} GiB of the GPU, and --llm-gpu-memory gives it "
                f"{share:.1f}: name a model with weights of at most "
                f"{max(share - _GPU_CACHE_GIB, 0):.1f} GiB, or raise --llm-gpu-memory."
            )
    if "encoder" in found and settings.encoder_device.startswith("cuda"):
        needed = found["encoder"].bytes / GIB + _GPU_WORK_GIB
        parts.append(f"encoder {needed:.1f}")
        if needed > total - share:
            raise GrapeError(
                f"the encoder needs {needed:.1f} GiB beside vLLM, and {total - share:.1f} are "
                "left: lower --llm-gpu-memory, or use --encoder-device cpu."
            )
    return f"an estimate, of {total:.1f} GiB: {', '.join(parts)}"
