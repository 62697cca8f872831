"""The service's parts and how they come up: pages at once, then encoder and index, then the
rewriter.
"""

import asyncio
import logging
from pathlib import Path

from models.adapter import Adapter, open_adapter
from models.demo import paths
from models.engine_shared import SharedEngine
from models.errors import GrapeError, InputError
from models.gate import Gate
from models.manifest import read_manifest
from models.rewriter import Rewriter
from models.rewriter_vllm import VLLMOptions, import_engine_ahead
from service import live
from service.adapters import Rewriters, Voice
from service.errors import ApiError, ErrorType, overloaded
from service.metrics import Metrics
from service.registry import Registry
from service.retriever import Retriever
from service.rewrite_cache import RewriteCache
from service.rewriting import RewriterHost
from service.schemas import PartHealth, Readiness
from service.search import Searcher
from service.settings import Settings

log = logging.getLogger("grape")


class Service:
    """What the routes talk to. A part that is still loading says so; nothing waits for it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.failed: GrapeError | None = None  # why it cannot serve at all
        self._in_flight = 0
        self._retriever: Retriever | None = None
        self._searcher: Searcher | None = None
        self._rewriters: Rewriters | None = None
        self._registry: Registry | None = None
        self._engine: SharedEngine | None = None
        self._cache = RewriteCache(settings.rewrite_cache, self.metrics)

    async def run(self) -> None:
        """Loads everything and keeps the rewriter alive until cancelled.

        Raises:
            GrapeError: the encoder, the index or the adapter cannot be used.
        """
        try:
            if self.settings.llm != "none" and not self.settings.llm_endpoint:
                import_engine_ahead(vllm_options(self.settings))
            self._retriever = await asyncio.to_thread(load_retriever, self.settings)
            adapter = await asyncio.to_thread(load_adapter, self.settings)
            gate = await asyncio.to_thread(load_gate, self.settings)
            self._registry = live.open_registry(self.settings)
            if self._registry:
                self._engine = live.shared_engine(vllm_options(self.settings))
            shared = await asyncio.to_thread(live.redis_store, self.settings, adapter)
            self._cache = RewriteCache(self.settings.rewrite_cache, self.metrics, shared)
            self._rewriters = Rewriters(Voice(self._host(adapter), adapter, gate), self._make_room)
            self._searcher = Searcher(
                self._retriever, self._rewriters, self.metrics, self.index_path.name
            )
        except GrapeError as error:
            self.failed = error
            raise
        try:
            await self._rewriters.run()
        finally:
            self._retriever.close()
            await self._cache.close()

    @property
    def index_path(self) -> Path:
        return index_path(self.settings)

    @property
    def retriever(self) -> Retriever:
        """Raises 503 while encoder and index are loading."""
        if self._retriever is None:
            raise _unavailable(f"encoder and index are not ready: {self._loading()}")
        return self._retriever

    @property
    def searcher(self) -> Searcher:
        """Raises 503 while encoder and index are loading."""
        if self._searcher is None:
            raise _unavailable(f"encoder and index are not ready: {self._loading()}")
        return self._searcher

    @property
    def rewriters(self) -> Rewriters:
        """Raises 503 while encoder, index and adapter are loading."""
        if self._rewriters is None:
            raise _unavailable(f"nothing is served yet: {self._loading()}")
        return self._rewriters

    @property
    def registry(self) -> Registry:
        """Raises 503 while it is not open; asked for only where the settings name one."""
        if self._registry is None:
            raise _unavailable(f"the registry is not open: {self._loading()}")
        return self._registry

    async def voice_from_registry(self, name: str) -> Voice:
        """Copies an adapter out of the registry and checks that it fits; starts nothing.

        Raises:
            InputError: it does not; the sentence says why.
        """
        folder = await asyncio.to_thread(self.registry.copy, name)
        try:
            adapter = await asyncio.to_thread(fitting_adapter, self.settings, folder)
            return Voice(self._host(adapter), adapter, Gate.beside(folder))
        except InputError as error:  # the copy's place would say nothing
            raise InputError(str(error).replace(str(folder), name)) from error

    @property
    def sees_pictures(self) -> bool:
        """Whether the language model reads pictures itself."""
        return self._rewriters is not None and self._rewriters.sees_pictures

    def readiness(self) -> Readiness:
        loaded = self._searcher is not None
        store = PartHealth(ready=loaded, reason="" if loaded else self._loading())
        if self.settings.llm == "none":
            rewriter = PartHealth(ready=True, reason="switched off with llm 'none'")
        else:
            rewriter = PartHealth(ready=False, reason=self._loading())
            if self._rewriters and loaded:
                rewriter = PartHealth(ready=self._rewriters.ready, reason=self._rewriters.reason)
        return Readiness(
            ready=loaded and rewriter.ready, rewriter=rewriter, encoder=store, index=store
        )

    def admit(self, queries: int) -> "_Admitted":
        """Counts queries at work; one too many is refused with 429."""
        if self._in_flight + queries > self.settings.max_in_flight:
            raise overloaded(self.settings.max_in_flight)
        return _Admitted(self, queries)

    @property
    def in_flight(self) -> int:
        """Queries at work."""
        return self._in_flight

    @property
    def rewrites_under_way(self) -> int:
        return self._cache.under_way

    def count(self, queries: int) -> None:
        self._in_flight += queries

    def _loading(self) -> str:
        return str(self.failed) if self.failed else "still loading"

    def _host(self, adapter: Adapter | None) -> RewriterHost:
        async def start() -> Rewriter:
            if self._engine:
                return await self._engine.attach(adapter)
            return await asyncio.to_thread(start_rewriter, self.settings, adapter)

        return RewriterHost(
            None if self.settings.llm == "none" else start,
            adapter,
            self.settings.rewrite_timeout_s,
            self._cache,
        )

    def _make_room(self) -> None:
        if not self._engine:
            live.require_room(vllm_options(self.settings))


class _Admitted:
    def __init__(self, service: Service, queries: int) -> None:
        self._service = service
        self._queries = queries

    def __enter__(self) -> None:
        self._service.count(self._queries)

    def __exit__(self, *_: object) -> None:
        self._service.count(-self._queries)


def _unavailable(sentence: str) -> ApiError:
    return ApiError(503, ErrorType.UNAVAILABLE, f"{sentence}.", {"Retry-After": "2"})


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
    from models import gate
    from models.encoder import ClipEncoder
    from models.index import ImageIndex

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
        from models.rewriter_endpoint import EndpointRewriter

        key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else None
        return EndpointRewriter(
            settings.llm_endpoint,
            settings.llm,
            key,
            sees_pictures=settings.llm_sees_pictures,
            image_pixels=settings.llm_image_pixels,
        )
    from models.rewriter_vllm import VLLMRewriter

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
