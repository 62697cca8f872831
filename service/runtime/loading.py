"""From settings to parts: index and encoder, adapter and gate, rewriter."""

from pathlib import Path

from models.common import paths
from models.common.errors import InputError
from models.retriever.manifest import read_manifest
from models.rewriter.adapter import Adapter, open_adapter
from models.rewriter.protocol import Rewriter
from models.rewriter.vllm import VLLMOptions
from models.search.gate import Gate
from service.retrieval import Retriever
from service.runtime import live
from service.settings import Settings


def index_path(settings: Settings) -> Path:
    """The index folder that is served."""
    return settings.index or paths.index_dir()


def load_retriever(settings: Settings) -> Retriever:
    """Loads the encoder and opens the index with it.

    Raises:
        InputError: one of them is not there, or they do not belong together.
    """
    folder = index_path(settings)
    built_with = read_manifest(folder).encoder  # before what is heavy to import
    from models.retriever.clip_encoder import ClipEncoder
    from models.retriever.image_index import ImageIndex
    from models.search import gate

    demo = folder == paths.index_dir()
    name = settings.encoder or (paths.ENCODER if demo else built_with.name)
    pretrained = settings.pretrained if settings.encoder else built_with.pretrained
    encoder = ClipEncoder(name, pretrained, settings.encoder_device, settings.encoder_precision)
    index = ImageIndex.open(folder, encoder.fingerprint)
    gate.warm_up()
    return Retriever(encoder, index)


def adapter_path(settings: Settings) -> Path | None:
    """The adapter folder that is served; 'auto' looks whether the demo's own was made for this."""
    if settings.adapter == "none":
        return None
    if settings.adapter != "auto":
        return Path(settings.adapter)
    is_demo = settings.llm == paths.DEFAULT_LLM and index_path(settings) == paths.index_dir()
    return paths.ADAPTER if is_demo and not settings.llm_endpoint else None


def load_adapter(settings: Settings) -> Adapter | None:
    """Reads the adapter, if there is one to serve, and checks that it fits the base model.

    Raises:
        InputError: it does not.
    """
    folder = adapter_path(settings)
    return fitting_adapter(settings, folder) if folder else None


def fitting_adapter(settings: Settings, folder: Path) -> Adapter:
    """Reads an adapter folder.

    Raises:
        InputError: it does not fit the base model, or this version.
    """
    if settings.llm_endpoint:  # it is served there, under the name in --llm
        return open_adapter(folder, None, settings.max_lora_rank)
    model = Path(live.model_path(settings))
    if not model.is_dir():
        raise InputError("--adapter needs the base model as a folder, to check that they fit.")
    return open_adapter(folder, live.revision(model), settings.max_lora_rank)


def load_gate(settings: Settings) -> Gate:
    """The gate that was fitted with the adapter, else the default one."""
    folder = adapter_path(settings)
    return Gate.beside(folder) if folder else Gate()


def start_rewriter(settings: Settings, adapter: Adapter | None) -> Rewriter:
    """Starts the rewriter that the settings name; takes half a minute with vLLM on a CPU."""
    if settings.llm_endpoint:
        from models.rewriter.endpoint import EndpointRewriter

        key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else None
        return EndpointRewriter(
            settings.llm_endpoint,
            settings.llm,
            key,
            sees_pictures=settings.llm_sees_pictures,
            image_pixels=settings.llm_image_pixels,
        )
    from models.rewriter.vllm import VLLMRewriter

    return VLLMRewriter(vllm_options(settings), adapter, paths.merged_dir())


def vllm_options(settings: Settings) -> VLLMOptions:
    """The settings in the engine's words.

    Raises:
        InputError: a demo model that is not prepared.
    """
    return VLLMOptions(
        model=live.model_path(settings),
        dtype=settings.llm_dtype,
        max_model_len=settings.llm_max_len,
        max_num_seqs=settings.llm_max_seqs,
        kv_cache_gib=settings.llm_kv_cache_gib,
        gpu_memory_utilization=settings.llm_gpu_memory,
        max_lora_rank=settings.max_lora_rank,
        threads=settings.llm_threads,
        image_pixels=settings.llm_image_pixels,
    )
