"""Prometheus metrics, per stage."""

from collections.abc import Sequence
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.registry import Collector

# Why a query was searched as typed although it should have been rewritten.
Cause = Literal["not_ready", "timeout", "down", "unusable", "failed"]
STAGES = ("rewrite", "encode", "search", "fuse", "rerank", "total")
_BUCKETS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),  # fusing, and FAISS on a small gallery
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)


class Metrics:
    """Uses its own registry: vLLM fills the default one."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        stages = Histogram(
            "grape_stage_seconds",
            "Time of each stage of a search",
            ["stage"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        # Looking up a label costs more than counting, and these labels are known.
        self._stages = {stage: stages.labels(stage) for stage in STAGES}
        self._queries = self._counter(
            "grape_queries", "Queries by outcome: rewritten, kept or fallback", "status"
        )
        self._responses = self._counter(
            "grape_responses", "Responses by route and status code", "route", "code"
        )
        self._by_key = self._counter(
            "grape_key_responses", "Responses by the name of the request's API key", "key"
        )
        self._searched = Histogram(
            "grape_rewrites_searched",
            "Rewrites that a rewritten query is searched with",
            buckets=(1, 2, 4, 8, 16),
            registry=self._registry,
        )
        self._coverage = Histogram(
            "grape_rewrite_coverage",
            "Probability of all rewrites of a query together",
            buckets=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1),
            registry=self._registry,
        )
        self._truncated = self._counter(
            "grape_truncated_texts", "Queries with a text longer than the encoder's context"
        )
        fallbacks = self._counter(
            "grape_fallbacks",
            "Queries searched as typed because the rewriter failed, by cause",
            "cause",
        )
        self._fallbacks = {cause: fallbacks.labels(cause) for cause in get_args(Cause)}
        unranked = self._counter(
            "grape_rerank_fallbacks",
            "Searches whose hits kept their order because the reranker failed, by cause",
            "cause",
        )
        self._unranked = {cause: unranked.labels(cause) for cause in get_args(Cause)}
        self._reranked = self._counter(
            "grape_reranks",
            "Searches that were to be reranked, by outcome: reranked, kept or fallback",
            "status",
        )
        self._cached = self._counter(
            "grape_rewrite_cache",
            "Rewrites by source: kept (in memory), joined (already being written), redis or new",
            "source",
        )

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(name, documentation, labels, registry=self._registry)

    def add(self, collector: Collector) -> None:
        """Includes what ``collector`` reports in every scrape."""
        self._registry.register(collector)

    def fallback(self, cause: Cause) -> None:
        self._fallbacks[cause].inc()

    def rerank(self, status: str, cause: Cause | None) -> None:
        """Counts a search that was to be reranked; ``cause``: why its hits kept their order."""
        self._reranked.labels(status).inc()
        if cause:
            self._unranked[cause].inc()

    def cached(self, source: str) -> None:
        self._cached.labels(source).inc()

    def stage(self, stage: str, milliseconds: float) -> None:
        self._stages[stage].observe(milliseconds / 1000)

    def query(self, status: str, truncated: bool) -> None:
        self._queries.labels(status).inc()
        if truncated:
            self._truncated.inc()

    def rewrites(self, probabilities: Sequence[float | None]) -> None:
        """Counts a query's rewrites; nothing for one that is searched as typed."""
        if probabilities:
            self._searched.observe(len(probabilities))
        known = [probability for probability in probabilities if probability is not None]
        if known:
            self._coverage.observe(sum(known))

    def response(self, route: str, code: int, key: str | None) -> None:
        """``key``: the name of the request's API key, if it has one."""
        self._responses.labels(route, str(code)).inc()
        if key:
            self._by_key.labels(key).inc()

    def exposition(self) -> bytes:
        """The metrics in Prometheus's text format."""
        return generate_latest(self._registry)
