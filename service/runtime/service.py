"""The service: its parts, and how they start. The pages are first, then index, then rewriter."""

import asyncio
import logging

from models.client.wire import ErrorType, PartHealth, Readiness
from models.common.errors import GrapeError, InputError
from models.retriever.address import IndexPlace
from models.rewriter.adapter import Adapter
from models.rewriter.protocol import Rewriter
from models.rewriter.vllm_engine import import_engine_ahead
from models.rewriter.vllm_multi_adapter import SharedEngine
from models.search.gate import Gate
from models.search.mixture import Mixture
from service.errors import ApiError, overloaded, too_many_rewrites
from service.feedback import Feedback
from service.garbage_collector import keep_what_is_loaded
from service.monitoring.metrics import Metrics
from service.reranking import RerankSettings
from service.retrieval import BatchedRetriever
from service.rewriting.adapter_registry import Registry
from service.rewriting.cache import RewriteCache
from service.rewriting.host import RewriterHost
from service.rewriting.routing import AdapterSlot, Rewriters
from service.runtime.loading import (
    fitting_adapter,
    index_path,
    load_adapter,
    load_gate,
    load_mixture,
    load_reranker,
    load_retriever,
    open_registry,
    redis_store,
    require_room,
    served_tasks,
    shared_engine,
    start_rewriter,
    vllm_options,
)
from service.runtime.served_index import ServedIndex
from service.search import Searcher
from service.settings import Settings

log = logging.getLogger("grape")


class Service:
    """What the routes call. A part that is still loading is reported; nothing waits for it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.failed: GrapeError | None = None  # why it cannot serve at all
        self._in_flight = 0
        self._retriever: BatchedRetriever | None = None
        self._searcher: Searcher | None = None
        self._served_index: ServedIndex | None = None
        self._rewriters: Rewriters | None = None
        self._registry: Registry | None = None
        self._engine: SharedEngine | None = None
        self._cache = RewriteCache(settings.rewrite_cache, self.metrics)
        self.feedback = Feedback(settings.feedback) if settings.feedback else None

    async def run(self) -> None:
        """Loads everything and keeps the rewriter alive until cancelled.

        Raises:
            GrapeError: the encoder, the index or the adapter cannot be used.
        """
        try:
            if self.settings.llm != "none" and not self.settings.llm_endpoint:
                # A thread, because a model named on the hub may have to be downloaded.
                options = await asyncio.to_thread(vllm_options, self.settings)
                import_engine_ahead(options)
            self._retriever = await asyncio.to_thread(load_retriever, self.settings)
            adapter = await asyncio.to_thread(load_adapter, self.settings)
            reranker = await asyncio.to_thread(load_reranker, self.settings)
            gate = await asyncio.to_thread(load_gate, self.settings)
            mixture = load_mixture(self.settings, self._retriever)
            self._registry = open_registry(self.settings)
            if self._registry or reranker:
                options = await asyncio.to_thread(vllm_options, self.settings)
                self._engine = shared_engine(options)
            shared = await asyncio.to_thread(redis_store, self.settings, adapter)
            self._cache = RewriteCache(self.settings.rewrite_cache, self.metrics, shared)
            self._rewriters = Rewriters(
                AdapterSlot(self._host(adapter), adapter, gate, mixture),
                self._make_room,
                self._slot(reranker) if reranker else None,
            )
            self._serve(self._retriever)
            self._served_index = ServedIndex(
                self.index_path, self.settings.pictures, self._retriever, self._serve
            )
            keep_what_is_loaded()
        except GrapeError as error:
            self.failed = error
            raise
        watching = asyncio.create_task(self._served_index.watch())
        try:
            await self._rewriters.run()
        finally:
            watching.cancel()
            self._retriever.close()
            await self._cache.close()

    def _serve(self, retriever: BatchedRetriever) -> None:
        """From now on, requests are answered from this retriever's index."""
        assert self._rewriters
        self._retriever = retriever
        reranking = RerankSettings(self.settings.rerank_field, self.settings.rerank_passes)
        self._searcher = Searcher(
            retriever, self._rewriters, self.metrics, self.index_path.name, reranking
        )

    @property
    def served_index(self) -> ServedIndex:
        """Raises 503 while encoder and index are loading."""
        if self._served_index is None:
            raise _unavailable(f"encoder and index are not ready: {self._loading()}")
        return self._served_index

    @property
    def index_path(self) -> IndexPlace:
        return index_path(self.settings)

    @property
    def retriever(self) -> BatchedRetriever:
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
        """Raises 503 until it is open. Only used if the settings name one."""
        if self._registry is None:
            raise _unavailable(f"the registry is not open: {self._loading()}")
        return self._registry

    async def slot_from_registry(self, name: str) -> AdapterSlot:
        """Copies an adapter from the registry and checks that it fits. Starts nothing.

        Raises:
            InputError: it does not fit. The message says why.
        """
        folder = await asyncio.to_thread(self.registry.copy, name)
        try:
            return self._slot(await asyncio.to_thread(fitting_adapter, self.settings, folder))
        except InputError as error:  # name it as the registry does, not by its copy
            raise InputError(str(error).replace(str(folder), name)) from error

    def _slot(self, adapter: Adapter) -> AdapterSlot:
        """An adapter with what was fitted to it."""
        encoder = self.retriever.encoder.fingerprint.weights_sha256
        mixture = Mixture.in_folder(adapter.folder, encoder)
        return AdapterSlot(self._host(adapter), adapter, Gate.for_adapter(adapter.folder), mixture)

    @property
    def sees_pictures(self) -> bool:
        """Whether the language model reads images."""
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
        index = self._served_index.index if self._served_index else store
        pictures = self._served_index.pictures if self._served_index else store
        return Readiness(
            ready=loaded and rewriter.ready and index.ready and pictures.ready,
            rewriter=rewriter,
            encoder=store,
            index=index,
            pictures=pictures,
        )

    def admit(self, rewrites: int) -> "_Admitted":
        """Counts rewrites while they are in flight; a query counts as one at least.

        Refuses with 429 above the limit, and with 413 what will never fit.
        """
        limit = self.settings.max_in_flight
        if rewrites > limit:
            raise too_many_rewrites(rewrites, limit)
        if self._in_flight + rewrites > limit:
            raise overloaded(limit)
        return _Admitted(self, rewrites)

    @property
    def in_flight(self) -> int:
        """Rewrites that the requests being processed may need; at least one for each query."""
        return self._in_flight

    @property
    def rewrites_under_way(self) -> int:
        return self._cache.under_way

    def count(self, rewrites: int) -> None:
        self._in_flight += rewrites

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
            self.settings.llm_max_seqs,
            lambda: served_tasks(self.settings, adapter),
        )

    def _make_room(self) -> None:
        if not self._engine:
            require_room(vllm_options(self.settings))


class _Admitted:
    def __init__(self, service: Service, rewrites: int) -> None:
        self._service = service
        self._rewrites = rewrites

    def __enter__(self) -> None:
        self._service.count(self._rewrites)

    def __exit__(self, *_: object) -> None:
        self._service.count(-self._rewrites)


def _unavailable(sentence: str) -> ApiError:
    return ApiError(503, ErrorType.UNAVAILABLE, f"{sentence}.", {"Retry-After": "2"})
