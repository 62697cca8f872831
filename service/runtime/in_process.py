"""Answers a request in this process, without a server, for the shell commands."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from models.common.progress import say
from models.retriever.filters import parse_filter
from models.rewriter.protocol import AUTO, Sampling
from models.rewriter.tasks import TASKS
from models.search.options import Fusion, candidates
from models.search.query import Query
from service.monitoring.metrics import Metrics
from service.reference import Limits, from_request
from service.reranking import RerankSettings
from service.retrieval import BatchedRetriever
from service.rewriting.cache import RewriteCache
from service.rewriting.host import RewriterHost
from service.rewriting.routing import AdapterSlot, Rewriters
from service.runtime.loading import (
    index_path,
    load_adapter,
    load_gate,
    load_mixture,
    load_retriever,
    served_tasks,
    start_rewriter,
)
from service.search import Searcher, SearchOptions
from service.settings import Settings


async def answer_here(route: str, body: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """The server's answer to ``POST route`` with ``body``, as parsed JSON."""
    retriever = load_retriever(settings)
    try:
        if route == "/rewrite":
            return await _rewrite(body, retriever, settings)
        return await _search(body, retriever, settings)
    finally:
        retriever.close()


async def _rewrite(
    body: dict[str, Any], retriever: BatchedRetriever, settings: Settings
) -> dict[str, Any]:
    async with _searcher(retriever, settings, with_rewriter=True) as searcher:
        n = body["n"]
        sampling = AUTO if n == "auto" else Sampling(n, body["temperature"])
        task = TASKS.get(body["task"])  # none for "auto"
        results = []
        for start in range(0, len(body["query"]), settings.max_queries):
            some = body["query"][start : start + settings.max_queries]
            results += await asyncio.gather(
                *(searcher.rewrite(Query(text, task=task), sampling) for text in some)
            )
        return {"results": [result.model_dump() for result in results]}


async def _search(
    body: dict[str, Any], retriever: BatchedRetriever, settings: Settings
) -> dict[str, Any]:
    limits = Limits(settings.max_image_bytes, settings.max_image_pixels)
    picture = body.get("image")
    reference = await from_request(retriever, picture, limits) if picture is not None else None
    several = isinstance(body["query"], list)
    queries = [Query(text, reference) for text in (body["query"] if several else [body["query"]])]
    needed = await _needs_rewriter(queries, body, retriever, settings)
    fusion: Fusion = body["fusion"]
    options = SearchOptions(
        body["k"],
        body["rewrite"],
        fusion,
        body["n"],
        compare=False,
        candidates=candidates(body.get("rerank", False)),
    )
    if body.get("filter") is not None:
        options = options._replace(chosen=await retriever.select(parse_filter(body["filter"])))
    answers: list[dict[str, Any]] = []
    async with _searcher(retriever, settings, with_rewriter=needed) as searcher:
        for start in range(0, len(queries), settings.max_queries):
            some = queries[start : start + settings.max_queries]
            found = await asyncio.gather(
                *(searcher.search(query, options, request_id="local") for query in some)
            )
            answers += (json.loads(one.model_dump_json(exclude={"original_hits"})) for one in found)
    return {"results": answers} if several else answers[0]


async def _needs_rewriter(
    queries: list[Query], body: dict[str, Any], retriever: BatchedRetriever, settings: Settings
) -> bool:
    """Whether any query does; otherwise the language model would be started for nothing."""
    texts = [query.text for query in queries if query.text is not None]
    if texts and body.get("rerank", False):
        return True
    if not texts or body["rewrite"] == "never":
        return False
    if body["rewrite"] == "always" or queries[0].reference:
        return True
    async with _searcher(retriever, settings, with_rewriter=False) as searcher:
        for text in texts:
            if await searcher.needs_rewriter(text):
                return True
    return False


@contextlib.asynccontextmanager
async def _searcher(
    retriever: BatchedRetriever, settings: Settings, with_rewriter: bool
) -> AsyncIterator[Searcher]:
    """A searcher whose rewriter is ready, has failed to start, or is not needed."""
    metrics = Metrics()
    cache = RewriteCache(0, metrics)
    adapter = None
    if with_rewriter and settings.llm != "none":
        adapter = load_adapter(settings)
        if not settings.llm_endpoint:
            say("Starting the language model (a minute on a CPU; `grape serve` keeps it loaded)")
        started = await asyncio.to_thread(start_rewriter, settings, adapter)

        async def start() -> Any:
            return started

        host = RewriterHost(
            start,
            adapter,
            settings.rewrite_timeout_s,
            cache,
            tasks=lambda: served_tasks(settings, adapter),
        )
    else:
        host = RewriterHost(None, None, settings.rewrite_timeout_s, cache)
    rewriters = Rewriters(
        AdapterSlot(host, adapter, load_gate(settings), load_mixture(settings, retriever))
    )
    running = asyncio.create_task(rewriters.run())
    try:
        while with_rewriter and settings.llm != "none" and not host.ready:
            if host.reason != "still loading":
                say(f"the language model cannot be used: {host.reason}")
                break
            await asyncio.sleep(0.02)
        yield Searcher(
            retriever,
            rewriters,
            metrics,
            index_path(settings).name,
            RerankSettings(settings.rerank_field, settings.rerank_passes),
        )
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
