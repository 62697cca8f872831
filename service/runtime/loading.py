"""From settings to parts: encoder and index, adapter and gate, rewriter, registry, shared store."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from models.common import paths
from models.common.errors import GrapeError, InputError
from models.common.hub import shown
from models.common.hub_progress import size
from models.retriever import picture_worker
from models.retriever.address import IndexPlace, folder_of
from models.retriever.open import EncoderOptions, open_index
from models.rewriter.adapter import Adapter, open_adapter
from models.rewriter.base_model import (
    adapter_folder,
    checkpoint_revision,
    find_checkpoint,
    present_checkpoint,
)
from models.rewriter.chat import SERVERS_TEMPLATE, template_for
from models.rewriter.protocol import Rewriter
from models.rewriter.tasks import RERANK_TASKS, SERVED_TASKS, Task, in_style
from models.rewriter.vllm import VLLMOptions, VLLMRewriter
from models.rewriter.vllm_engine import attaches_adapters
from models.rewriter.vllm_multi_adapter import SharedEngine
from models.search import gate
from models.search.gate import Gate
from models.search.mixture import Mixture
from service.retrieval import BatchedRetriever
from service.rewriting.adapter_registry import Registry
from service.rewriting.redis_cache import RedisStore
from service.settings import Settings

if TYPE_CHECKING:  # heavy
    from models.retriever.index import Index

_GIB = 2**30

# Reading a checkpoint of about 1 GB takes seconds, and it does not change while it is served.
_revision = functools.cache(checkpoint_revision)
# The hub is asked once, so that all parts of a server mean the same commit.
_checkpoint = functools.cache(find_checkpoint)


def index_path(settings: Settings) -> IndexPlace:
    """The index that is served: a folder, or a collection in Milvus."""
    return settings.index or paths.index_dir()


def load_retriever(settings: Settings) -> BatchedRetriever:
    """Opens the index, with its encoder, and loads the word lists of the gate.

    Raises:
        InputError: index or encoder are missing, or they do not fit each other.
    """
    if settings.index is None and not (paths.index_dir() / "manifest.json").is_file():
        raise InputError(
            "The demo's gallery is not prepared: run `grape demo prepare` first, or name an "
            "--index."
        )
    options = EncoderOptions(
        settings.encoder, settings.pretrained, settings.encoder_device, settings.encoder_precision
    )
    encoder, index = open_index(index_path(settings), options)
    gate.warm_up()
    picture_worker.warm_up()
    return BatchedRetriever(encoder, at_pictures(index, settings.pictures))


def at_pictures(index: "Index", folder: Path | None) -> "Index":
    """The index with its pictures in another folder, unless it is None.

    Raises:
        InputError: it is not a folder.
    """
    if folder is None:
        return index
    if not folder.is_dir():
        raise InputError(f"--pictures {folder} is not a folder: name where the pictures are.")
    index.manifest = index.manifest.model_copy(update={"pictures": str(folder.resolve())})
    return index


def load_adapter(settings: Settings) -> Adapter | None:
    """Reads the adapter that is served, if any, and checks that it fits the base model.

    Raises:
        InputError: it does not fit.
    """
    folder = _adapter_folder(settings)
    return fitting_adapter(settings, folder) if folder else None


def load_reranker(settings: Settings) -> Adapter | None:
    """Reads the adapter that compares hits, if there is one of its own.

    Raises:
        InputError: it does not fit, or does not compare anything.
    """
    folder = settings.rerank_adapter
    if folder is None or settings.llm == "none":
        return None
    if settings.llm_endpoint:
        raise InputError(
            "--rerank-adapter needs the model in this process: the model at --llm-endpoint "
            "compares hits with what is loaded there."
        )
    adapter = fitting_adapter(settings, folder)
    if not RERANK_TASKS.keys() & adapter.manifest.tasks:
        raise InputError(
            f"The adapter {folder} is no reranker: train one with `task: rerank`, or name it in "
            "--adapter."
        )
    return adapter


def load_gate(settings: Settings) -> Gate:
    """The gate that was fitted with the adapter, or the default one."""
    folder = _adapter_folder(settings)
    return Gate.for_adapter(folder) if folder else Gate()


def load_mixture(settings: Settings, retriever: BatchedRetriever) -> Mixture:
    """The mixture that was fitted with the adapter, or the default one."""
    folder = _adapter_folder(settings) or folder_of(index_path(settings))
    return Mixture.in_folder(folder, retriever.encoder.fingerprint.weights_sha256)


def fitting_adapter(settings: Settings, folder: Path) -> Adapter:
    """Reads an adapter folder.

    Raises:
        InputError: it does not fit the base model, or this version.
    """
    if settings.llm_endpoint:  # the server there applies it, under the name in --llm
        return open_adapter(folder, None, settings.max_lora_rank)
    return open_adapter(folder, _revision(_checkpoint(settings.llm)), settings.max_lora_rank)


def start_rewriter(settings: Settings, adapter: Adapter | None) -> Rewriter:
    """Starts the rewriter. With vLLM on a CPU this takes half a minute."""
    if not settings.llm_endpoint:
        options = vllm_options(settings)
        require_memory(options)
        return VLLMRewriter(options, adapter, paths.merged_dir())
    from models.rewriter.endpoint import EndpointRewriter

    key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else None
    return EndpointRewriter(
        settings.llm_endpoint,
        settings.llm,
        key,
        sees_pictures=settings.llm_sees_pictures,
        image_pixels=settings.llm_image_pixels,
        may_chat=settings.prompt_style == "auto",
    )


def vllm_options(settings: Settings) -> VLLMOptions:
    """The settings as options of the engine.

    Raises:
        InputError: a demo model that is not prepared, or an unknown hub name.
    """
    return VLLMOptions(
        model=model_path(settings),
        dtype=settings.llm_dtype,
        max_model_len=settings.llm_max_len,
        max_num_seqs=settings.llm_max_seqs,
        kv_cache_gib=settings.llm_kv_cache_gib,
        gpu_memory_utilization=settings.llm_gpu_memory,
        max_lora_rank=settings.max_lora_rank,
        threads=settings.llm_threads,
        image_pixels=settings.llm_image_pixels,
    )


def model_path(settings: Settings) -> str:
    """The folder that the engine loads; a model on the hub is downloaded first.

    Raises:
        InputError: a demo model that is not prepared, or an unknown hub name.
        GrapeError: the download failed.
    """
    return str(_checkpoint(settings.llm))


def served_tasks(settings: Settings, adapter: Adapter | None) -> dict[str, Task]:
    """The prompts that are put to the model: an adapter's as it was trained, others in the style.

    Raises:
        InputError: the model has no chat template, or not the one of the adapter.
    """
    style = settings.prompt_style
    if adapter:
        style = adapter.prompt_style(style)
    if settings.llm_endpoint:
        chat = SERVERS_TEMPLATE if style == "chat" else None
    elif style == "plain":
        chat = None
    else:
        chat = template_for(style, _checkpoint(settings.llm))
    return {**in_style(SERVED_TASKS, chat), **(adapter.tasks_with(chat) if adapter else {})}


def open_registry(settings: Settings) -> Registry | None:
    """The adapter registry, if the settings name one.

    Raises:
        InputError: the folder does not exist, or there is no model here to apply an adapter to.
    """
    if settings.adapter_registry is None:
        return None
    if settings.llm_endpoint or settings.llm == "none":
        raise InputError(
            "--adapter-registry needs the model in this process. A server at --llm-endpoint loads "
            "its adapters itself: start GRAPE with the adapter's name there as --llm."
        )
    return Registry(settings.adapter_registry, paths.cache_dir() / "adapters")


def shared_engine(options: VLLMOptions) -> SharedEngine | None:
    """One engine for all adapters, if they can be attached."""
    if not attaches_adapters():
        return None
    # One for each task, and one that is being proved.
    options = options._replace(attachable=len(SERVED_TASKS) + 1)
    return SharedEngine(lambda: VLLMRewriter(options))


def require_memory(options: VLLMOptions) -> None:
    """Checks that a model can fit at all, before minutes are spent on loading it.

    Raises:
        InputError: its weights and the cache are more than the free memory; says what would fit.
    """
    if attaches_adapters():  # the memory is the GPU's
        return
    weights = sum(path.stat().st_size for path in Path(options.model).glob("*.safetensors"))
    cache, free = options.kv_cache_gib * _GIB, psutil.virtual_memory().available
    if weights + cache > free:
        raise InputError(
            f"{shown(options.model)} needs {size(weights)} for its weights and {size(cache)} for "
            f"its cache, and {size(free)} are free: a model with weights of at most "
            f"{size(max(free - cache, 0))} would fit, or lower --llm-kv-cache-gib."
        )


def require_room(options: VLLMOptions) -> None:
    """Checks the memory for a second engine, which a new merged adapter needs.

    Raises:
        GrapeError: there is too little, and the system would kill one of the engines.
    """
    files = sum(path.stat().st_size for path in Path(options.model).glob("*.safetensors"))
    # Merging computes in float32, whatever the dtype of the files.
    needed = 2 * files + options.kv_cache_gib * _GIB
    free = psutil.virtual_memory().available
    if free < needed:
        raise GrapeError(
            f"a second engine needs about {needed / _GIB:.1f} GiB while the first one answers, but "
            f"only {free / _GIB:.1f} GiB are free"
        )


def redis_store(settings: Settings, adapter: Adapter | None) -> RedisStore | None:
    """The shared store, if the settings name one.

    Raises:
        InputError: an invalid address, or a missing package.
    """
    if settings.redis_url is None:
        return None
    url = settings.redis_url.get_secret_value()
    return RedisStore(url, settings.redis_ttl_s, _model_key(settings, adapter))


def _model_key(settings: Settings, adapter: Adapter | None) -> str:
    """The base model, with its revision if that is known, for keys that outlive the server."""
    if settings.llm_endpoint:
        return f"{settings.llm_endpoint} {settings.llm}"
    if adapter:
        return adapter.manifest.base_revision
    folder = present_checkpoint(settings.llm)  # it has been downloaded before
    return _revision(folder) if folder else settings.llm


def _adapter_folder(settings: Settings) -> Path | None:
    """The adapter folder that is served. A server at --llm-endpoint gets none by default."""
    if settings.llm_endpoint and settings.adapter == "auto":
        return None
    return adapter_folder(settings.adapter, settings.llm, settings.index)
