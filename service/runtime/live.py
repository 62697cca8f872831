"""What the settings say of a running server's adapters and of what it shares with others."""

import functools
from pathlib import Path

import psutil

from models.common import paths
from models.common.errors import GrapeError, InputError
from models.rewriter.adapter import Adapter, checkpoint_revision
from models.rewriter.base_model import hub_checkpoint
from models.rewriter.tasks import TASKS
from models.rewriter.vllm import VLLMOptions, VLLMRewriter, attaches_adapters
from models.rewriter.vllm_multi_adapter import SharedEngine
from service.rewriting.adapter_registry import Registry
from service.rewriting.redis_cache import RedisStore
from service.settings import Settings

_GIB = 2**30


def open_registry(settings: Settings) -> Registry | None:
    """The registry, where the settings name one.

    Raises:
        InputError: no such folder, or no model here that could carry an adapter.
    """
    if settings.adapter_registry is None:
        return None
    if settings.llm_endpoint or settings.llm == "none":
        raise InputError(
            "--adapter-registry needs the model in this process: a server at --llm-endpoint loads "
            "its adapters itself, and GRAPE is started with the adapter's name there in --llm."
        )
    return Registry(settings.adapter_registry, paths.cache_dir() / "adapters")


def shared_engine(options: VLLMOptions) -> SharedEngine | None:
    """One engine for all adapters, where they are attached."""
    if not attaches_adapters():
        return None
    # One for each task, and the next one while it is proved.
    roomy = options._replace(attachable=len(TASKS) + 1)
    return SharedEngine(lambda: VLLMRewriter(roomy))


def require_room(options: VLLMOptions) -> None:
    """Where adapters are merged, a new one means another engine beside the old one.

    Raises:
        GrapeError: there is no memory for it, and the system would end one of the two.
    """
    files = sum(path.stat().st_size for path in Path(options.model).glob("*.safetensors"))
    needed = 2 * files + options.kv_cache_gib * _GIB  # merged in float32, whatever the files have
    free = psutil.virtual_memory().available
    if free < needed:
        raise GrapeError(
            f"a second engine needs about {needed / _GIB:.1f} GiB while the first one answers, and "
            f"{free / _GIB:.1f} GiB are free"
        )


def redis_store(settings: Settings, adapter: Adapter | None) -> RedisStore | None:
    """The shared store, where the settings name one.

    Raises:
        InputError: an address that is none, or a missing package.
    """
    if settings.redis_url is None:
        return None
    url = settings.redis_url.get_secret_value()
    return RedisStore(url, settings.redis_ttl_s, _model(settings, adapter))


def _model(settings: Settings, adapter: Adapter | None) -> str:
    """The base model with its revision where that can be known, for keys that outlive it."""
    if settings.llm_endpoint:
        return f"{settings.llm_endpoint} {settings.llm}"
    if adapter:
        return adapter.manifest.base_revision
    path = Path(model_path(settings))
    return revision(path) if path.is_dir() else str(path)


def model_path(settings: Settings) -> str:
    """A demo model's checkpoint, a folder, or a name for the hub, which the engine fetches.

    Where an adapter is to fit it, it is fetched here.
    """
    from models.demo.llm import DEMO_LLMS

    if settings.llm not in DEMO_LLMS:
        adapted = settings.adapter not in ("auto", "none") or settings.adapter_registry
        if not adapted or settings.llm_endpoint or Path(settings.llm).is_dir():
            return settings.llm
        return str(hub_checkpoint(settings.llm))
    checkpoint = paths.checkpoint_dir(settings.llm)
    if not checkpoint.is_dir():
        raise InputError(
            f"{settings.llm} is not prepared: run `grape demo prepare --llm {settings.llm}` first."
        )
    return str(checkpoint)


@functools.cache
def revision(model: Path) -> str:
    """Of a local checkpoint; read once, because it is a gigabyte."""
    return checkpoint_revision(model)
