"""What `/metrics` reads from the service on each scrape: queues, readiness and what is loaded."""

from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING, TypeVar

from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from service.errors import ApiError
from service.retrieval import BatchedRetriever

if TYPE_CHECKING:  # the service counts through this package
    from service.runtime.service import Service

Part = TypeVar("Part")


class ServiceGauges(Collector):
    """Costs nothing between scrapes, and is never out of date."""

    def __init__(self, service: "Service") -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        service = self._service
        retriever = _loaded(lambda: service.retriever)
        rewriters = _loaded(lambda: service.rewriters)
        yield _gauge(
            "grape_in_flight_queries",
            "Queries in flight; one with n 8 counts 8, one with n auto counts 1",
            service.in_flight,
        )
        yield _gauge(
            "grape_in_flight_limit",
            "grape_in_flight_queries above which more are refused",
            service.settings.max_in_flight,
        )
        depth = GaugeMetricFamily(
            "grape_queue_depth",
            "Searches waiting for the encoder, and queries whose rewrites are being written",
            labels=["queue"],
        )
        depth.add_metric(["encoder"], retriever.waiting if retriever else 0)
        depth.add_metric(["rewriter"], service.rewrites_under_way)
        yield depth
        yield self._readiness()
        adapters = GaugeMetricFamily(
            "grape_adapter_info",
            "The adapter of each task; its name contains a content hash",
            labels=["task", "adapter"],
        )
        for task, slot in rewriters.routing.items() if rewriters else ():
            adapters.add_metric([task, slot.name or ""], 1)
        yield adapters
        yield self._info(retriever)

    def _readiness(self) -> Metric:
        readiness = self._service.readiness()
        ready = GaugeMetricFamily("grape_ready", "Whether a part is ready", labels=["part"])
        for part in ("rewriter", "encoder", "index", "pictures"):
            ready.add_metric([part], int(getattr(readiness, part).ready))
        return ready

    def _info(self, retriever: BatchedRetriever | None) -> Metric:
        service = self._service
        loaded = {"index_version": "", "encoder": "", "pictures": ""}
        if retriever:
            manifest = retriever.index.manifest
            loaded = {
                "index_version": manifest.generation,
                "encoder": manifest.encoder.weights_sha256[:12],
                "pictures": str(manifest.count),
            }
        return InfoMetricFamily(
            "grape_build",
            "What is served; the index version changes with the index's content",
            {
                "version": version("grape"),
                "llm": service.settings.llm,
                "index": service.index_path.name,
                **loaded,
            },
        )

    def describe(self) -> list[Metric]:
        return []  # otherwise registering would collect before anything is loaded


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value)


def _loaded(part: Callable[[], Part]) -> Part | None:
    try:
        return part()
    except ApiError:
        return None
