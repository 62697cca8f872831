"""What `/metrics` reads off the service when it is asked: how much waits, and what is loaded."""

from collections.abc import Callable, Iterator
from importlib.metadata import version

from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from service.errors import ApiError
from service.retriever import Retriever
from service.state import Service


class ServiceGauges(Collector):
    """Costs nothing between two looks, and cannot be out of date."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        service = self._service
        retriever = _loaded(lambda: service.retriever)
        yield _gauge("grape_in_flight_queries", "Queries at work", service.in_flight)
        yield _gauge(
            "grape_in_flight_limit",
            "Queries at work beyond which more are refused",
            service.settings.max_in_flight,
        )
        depth = GaugeMetricFamily(
            "grape_queue_depth",
            "Searches that wait for the encoder, and rewrites that are being written",
            labels=["queue"],
        )
        depth.add_metric(["encoder"], retriever.waiting if retriever else 0)
        depth.add_metric(["rewriter"], service.rewrites_under_way)
        yield depth
        yield self._readiness()
        yield self._info(retriever)

    def _readiness(self) -> Metric:
        readiness = self._service.readiness()
        ready = GaugeMetricFamily("grape_ready", "Whether a part can be used", labels=["part"])
        for part in ("rewriter", "encoder", "index"):
            ready.add_metric([part], int(getattr(readiness, part).ready))
        return ready

    def _info(self, retriever: Retriever | None) -> Metric:
        service = self._service
        loaded = {"index_version": "", "encoder": "", "pictures": ""}
        if retriever:
            manifest = retriever.index.manifest
            loaded = {
                "index_version": manifest.vectors_file,
                "encoder": manifest.encoder.weights_sha256[:12],
                "pictures": str(manifest.count),
            }
        return InfoMetricFamily(
            "grape_build",
            "What is served; the adapter's and the index's names change with their content",
            {
                "version": version("grape"),
                "llm": service.settings.llm,
                "adapter": " ".join(service.adapters),
                "index": service.index_path.name,
                **loaded,
            },
        )

    def describe(self) -> list[Metric]:
        return []  # else registering would collect, and nothing is loaded then


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value)


def _loaded(part: Callable[[], Retriever]) -> Retriever | None:
    try:
        return part()
    except ApiError:
        return None
