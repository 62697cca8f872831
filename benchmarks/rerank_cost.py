"""What reranking 20 candidates costs: beside a greedy rewrite, and of the raw engine's throughput.

    python -m benchmarks.rerank_cost [--write]

The first table is the time of one comparison with nothing else in the engine. The second is
comparisons a second with 1 and 8 clients that each wait for their answer: of the raw engine, and of
`POST /rerank` for the same candidates, in turns. With ``--write`` both go into docs/reranking.md.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import numpy as np
import torch

from benchmarks.load import Load, closed_loop
from benchmarks.pages import RERANKING, write_between
from models.common import paths
from models.rewriter.adapter import open_adapter
from models.rewriter.base_model import checkpoint_revision, find_checkpoint
from models.rewriter.protocol import Prompt, Sampling
from models.rewriter.vllm import VLLMOptions, VLLMRewriter
from models.search.compare import compared, read_for
from models.search.options import CANDIDATES, ComparedBy
from models.search.rerank import Comparison, comparison, text_of
from tests.support.grape_server import Server
from training.data.rows import Row
from training.evaluation.run import evaluation_of
from training.evaluation.settings import EvalSettings

BY: tuple[ComparedBy, ...] = ("likelihood", "group")
TIMED = 40  # queries
CLIENTS = (1, 8)
ROUNDS = 2
PATIENCE_S = 120  # what is late is measured too
_WORDS = 262_144
_WIDTH = 640
_LAYER_PARAMETERS = 100e6  # of Gemma 3 270M without its vocabulary


class Candidates(NamedTuple):
    """Queries in other languages, each with the captions that its search finds."""

    rows: list[Row]
    texts: list[list[str | None]]

    def comparisons(self, by: ComparedBy) -> list[Comparison]:
        pairs = zip(self.rows, self.texts, strict=True)
        made = [comparison(by, row.query, texts) for row, texts in pairs]
        return [one for one in made if one]


def candidates() -> Candidates:
    """Of the demo's test split."""
    work = paths.cache_dir() / "eval"
    evaluation = evaluation_of(EvalSettings(data="demo", systems=["direct"], limit=8, work=work))
    retriever = evaluation.retriever
    rows = [row for row in evaluation.rows if row.task == "multilingual" and row.language != "en"]
    rows = rows[:TIMED]
    vectors = retriever.encoder.encode_texts([row.query for row in rows])
    places = [
        [hit.position for hit in hits] for hits in retriever.index.search(vectors, CANDIDATES)
    ]
    texts = [[text_of(item.record) for item in retriever.index.items.at(own)] for own in places]
    return Candidates(rows, texts)


class Cost(NamedTuple):
    """Of one comparison; medians."""

    prompts: float
    read: float  # tokens, with what all prompts share
    computed: float  # tokens, without what is in the prefix cache
    milliseconds: float


async def costs(rewriter: VLLMRewriter, found: Candidates) -> list[str]:
    """The first table: each way, beside a greedy rewrite and a floor for the likelihood."""
    adapter = open_adapter(paths.ADAPTER, checkpoint_revision(find_checkpoint("gemma3-270m")))
    prompts = [Prompt(adapter.tasks["multilingual"], row.query) for row in found.rows]
    await rewriter.complete(prompts[0], Sampling())
    rewrite = [await _timed(rewriter.complete(prompt, Sampling())) for prompt in prompts]
    table: dict[str, Cost] = {}
    for way in BY:
        comparisons = found.comparisons(way)
        await compared(rewriter, comparisons[0])
        times = [await _timed(compared(rewriter, one)) for one in comparisons]
        table[way] = _cost(rewriter, comparisons, times)
    floor = _floor_ms(rewriter, found.comparisons("likelihood"))
    return list(cost_lines(table, float(np.median(rewrite)), floor))


async def _timed(work: Any) -> float:
    began = time.perf_counter()
    await work
    return 1000 * (time.perf_counter() - began)


def _cost(rewriter: VLLMRewriter, comparisons: Sequence[Comparison], times: list[float]) -> Cost:
    tokens = [[_tokens(rewriter, text) for text in read_for(one)] for one in comparisons]
    return Cost(
        prompts=float(np.median([len(own) for own in tokens])),
        read=float(np.median([sum(map(len, own)) for own in tokens])),
        computed=float(np.median([_computed(own) for own in tokens])),
        milliseconds=float(np.median(times)),
    )


def _tokens(rewriter: VLLMRewriter, text: str) -> list[int]:
    ids: list[int] = rewriter._engine.get_tokenizer().encode(text)
    return ids


def _computed(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens that are not in a block of 32 that all prompts share."""
    pairs = enumerate(zip(*prompts, strict=False))
    shared = next((n for n, column in pairs if len(set(column)) > 1), 0) // 32 * 32
    return sum(len(prompt) - shared for prompt in prompts)


def _floor_ms(rewriter: VLLMRewriter, comparisons: Sequence[Comparison]) -> float:
    """The matrix products of a comparison by likelihood, as fast as this machine multiplies."""
    hidden = torch.randn(120, _WIDTH, dtype=torch.bfloat16)
    words = torch.randn(_WORDS, _WIDTH, dtype=torch.bfloat16)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        torch.nn.functional.linear(hidden, words)
        times.append(time.perf_counter() - began)
    rate = 2 * hidden.numel() * _WORDS / min(times)
    products = []
    for one in comparisons:
        own = [_tokens(rewriter, text) for text in read_for(one)]
        # Each token of the query and the end of its line; the tokenizer adds one that begins it.
        scored = len(own) * len(_tokens(rewriter, " " + one.query))
        products.append(2 * (_computed(own) * _LAYER_PARAMETERS + scored * _WIDTH * _WORDS))
    return 1000 * float(np.median(products)) / rate


def cost_lines(table: dict[str, Cost], rewrite: float, floor: float) -> Iterator[str]:
    """The lines of the first table."""
    yield "| | prompts | tokens read | of them computed | ms | beside a greedy rewrite |"
    yield "|---|--:|--:|--:|--:|--:|"
    yield f"| one greedy rewrite | 1 | | | {rewrite:.0f} | 1 |"
    for name, cost in table.items():
        yield (
            f"| 20 candidates by {name} | {cost.prompts:.0f} | {cost.read:.0f} "
            f"| {cost.computed:.0f} | {cost.milliseconds:.0f} | {cost.milliseconds / rewrite:.1f} |"
        )
    yield f"| the matrix products of the likelihood | | | | {floor:.0f} | {floor / rewrite:.1f} |"


async def throughput(rewriter: VLLMRewriter, server: Server, found: Candidates) -> list[str]:
    """The second table. The better one of the rounds counts, for both sides."""
    lines = [
        "| | clients | the raw engine, a second | `POST /rerank`, a second | share |",
        "|---|--:|--:|--:|--:|",
    ]
    async with aiohttp.ClientSession(server.url) as session:
        for by in BY:
            comparisons = {one.query: one for one in found.comparisons(by)}
            queries = list(comparisons)

            async def raw(query: str, asked: dict[str, Comparison] = comparisons) -> None:
                await compared(rewriter, asked[query])

            async def served(query: str, asked: dict[str, Comparison] = comparisons) -> None:
                body = {
                    "query": query,
                    "documents": asked[query].texts,
                    "rerank_by": asked[query].by,
                }
                async with session.post("/rerank", json=body) as response:
                    answer = await response.json()
                    assert response.status == 200, answer
                    assert answer["rerank"]["status"] == "reranked", answer["rerank"]

            for clients in CLIENTS:
                loads: dict[str, list[Load]] = {"raw": [], "served": []}
                for _ in range(ROUNDS):
                    loads["raw"].append(await closed_loop(raw, queries, clients))
                    loads["served"].append(await closed_loop(served, queries, clients))
                floor, ours = (max(load.rate for load in own) for own in loads.values())
                lines.append(
                    f"| 20 candidates by {by} | {clients} | {floor:.1f} | {ours:.1f} "
                    f"| {ours / floor:.2f} |"
                )
    return lines


async def measured() -> tuple[list[str], list[str]]:
    """Both tables."""
    found = candidates()
    checkpoint = find_checkpoint("gemma3-270m")
    adapter = open_adapter(paths.ADAPTER, checkpoint_revision(checkpoint))
    rewriter = VLLMRewriter(VLLMOptions(str(checkpoint)), adapter, paths.merged_dir())
    try:
        cost = await costs(rewriter, found)
        print("\n".join(cost), flush=True)
        flags = ("--rewrite-cache", "0", "--rewrite-timeout-s", f"{PATIENCE_S}")
        server = Server(Path(tempfile.mkdtemp()) / "log", *flags)
        try:
            server.wait_until_ready()
            rates = await throughput(rewriter, server, found)
        finally:
            server.stop()
    finally:
        await rewriter.close()
    print("\n".join(rates), flush=True)
    return cost, rates


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write it to docs/reranking.md")
    arguments = parser.parse_args()
    cost, rates = asyncio.run(measured())
    if arguments.write:
        write_between(RERANKING, "cost", "\n".join(cost))
        write_between(RERANKING, "rates", "\n".join(rates))


if __name__ == "__main__":
    main()
