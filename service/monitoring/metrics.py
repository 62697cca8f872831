"""Prometheus metrics, per stage."""

from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.registry import Collector

# Why a query was searched as typed although it was to be rewritten.
Cause = Literal["not_ready", "timeout", "down", "unusable", "failed"]
STAGES = ("rewrite", "encode", "search", "fuse", "total")
_BUCKETS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),  # fusing, and FAISS in a small gallery
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)


class Metrics:
    """A registry of its own: vLLM fills the default one."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        stages = Histogram(
            "grape_stage_seconds",
            "Time of each stage of a search",
            ["stage"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        # Looking a label up costs more than counting; these are known.
        self._stages = {stage: stages.labels(stage) for stage in STAGES}
        self._queries = Counter(
            "grape_queries",
            "Queries by what became of them: rewritten, kept or fallback",
            ["status"],
            registry=self._registry,
        )
        self._responses = Counter(
            "grape_responses",
            "Responses by route and status code",
            ["route", "code"],
            registry=self._registry,
        )
        self._truncated = Counter(
            "grape_truncated_texts",
            "Queries with a text that is longer than the encoder reads at once",
            registry=self._registry,
        )
        fallbacks = Counter(
            "grape_fallbacks",
            "Queries that were searched as typed because the rewriter failed, by why",
            ["cause"],
            registry=self._registry,
        )
        self._fallbacks = {cause: fallbacks.labels(cause) for cause in get_args(Cause)}
        self._cached = Counter(
            "grape_rewrite_cache",
            "Rewrites by where they came from: kept, joined (being written already), redis or new",
            ["source"],
            registry=self._registry,
        )

    def add(self, collector: Collector) -> None:
        """Has ``collector`` asked whenever the metrics are."""
        self._registry.register(collector)

    def fallback(self, cause: Cause) -> None:
        self._fallbacks[cause].inc()

    def cached(self, source: str) -> None:
        self._cached.labels(source).inc()

    def stage(self, stage: str, milliseconds: float) -> None:
        self._stages[stage].observe(milliseconds / 1000)

    def query(self, status: str, truncated: bool) -> None:
        self._queries.labels(status).inc()
        if truncated:
            self._truncated.inc()

    def response(self, route: str, code: int) -> None:
        self._responses.labels(route, str(code)).inc()

    def exposition(self) -> bytes:
        """The text format that Prometheus scrapes."""
        return generate_latest(self._registry)
