"""Prometheus metrics, per stage."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

STAGES = ("rewrite", "encode", "search", "total")
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


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
            "Texts that the encoder did not read to their end",
            registry=self._registry,
        )

        self._cached = Counter(
            "grape_rewrite_cache",
            "Rewrites by where they came from: kept, joined (being written already), redis or new",
            ["source"],
            registry=self._registry,
        )

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
