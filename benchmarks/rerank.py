"""What reranking gains and what it costs, on the demo's test split.

    python -m benchmarks.rerank [--limit N] [--skip-groups] [--write]

The first table is recall of the first 20 hits in three orders: as the mixture finds them, by query
likelihood, and rated in groups by the same model, which was not trained for that. The second is the
time of one comparison of 20 candidates, with nothing else in the engine. With ``--write`` both go
into docs/reranking.md. An interrupted run continues where it stopped.
"""

import argparse
import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.pages import DOCS, write_between
from models.common import paths
from models.rewriter.adapter import open_adapter
from models.rewriter.base_model import checkpoint_revision, find_checkpoint
from models.rewriter.protocol import Prompt, Sampling
from models.rewriter.vllm import VLLMOptions, VLLMRewriter
from models.search.compare import compared, read_for
from models.search.options import CANDIDATES, ComparedBy
from models.search.rerank import Comparison, comparison, text_of
from training.data.rows import Row
from training.evaluation.queries import OTHER_LANGUAGES, SHORT_ENGLISH
from training.evaluation.results import ALL, Results
from training.evaluation.run import evaluate, evaluation_of
from training.evaluation.settings import EvalSettings
from training.evaluation.statistics import Slice, estimate
from training.rewards.ranking import Floats

PAGE = DOCS / "reranking.md"
AUTO, LIKELIHOOD, GROUP = "auto", "auto+rerank", "auto+rerank-group"
# Data, slice, and what the slice is called.
ROWS = (
    ("demo", OTHER_LANGUAGES, "names in 13 languages"),
    ("demo-keywords", OTHER_LANGUAGES, "keywords in 13 languages"),
    ("demo", "task long", "English descriptions"),
    ("demo", SHORT_ENGLISH, "short plain English"),
)
TIMED = 40  # queries
_WORDS = 262_144
_WIDTH = 640
_LAYER_PARAMETERS = 100e6  # of Gemma 3 270M without its vocabulary


def asked(data: str, systems: list[str], limit: int) -> EvalSettings:
    """The queries and the systems."""
    work = paths.cache_dir() / "eval"
    return EvalSettings(data=data, systems=systems, limit=limit, work=work)


def recalls(results: dict[str, Results], systems: Sequence[str]) -> Iterator[str]:
    """The lines of the first table."""
    heads = [f"{name}: R@1 | R@10" for name in systems]
    yield f"| | queries | {' | '.join(heads)} | `{LIKELIHOOD}` minus `auto`, R@1 |"
    yield "|---|--:|" + "--:|" * (2 * len(systems) + 1)
    for data, part, shown in ROWS:
        found = results[data]
        where = _slice(found, part)
        ranks = {system.name: np.array(system.ranks) for system in found.systems}
        cells = [
            _interval(where.values((ranks[name] <= k).astype(float)))
            for name in systems
            for k in (1, 10)
        ]
        gain = (ranks[LIKELIHOOD] == 1).astype(float) - (ranks[AUTO] == 1)
        difference = estimate(*where.values(gain))
        yield (
            f"| {shown} | {len(where.positions)} | {' | '.join(cells)} | {difference.value:+.3f} "
            f"[{difference.low:+.3f}, {difference.high:+.3f}] |"
        )


def _slice(results: Results, name: str) -> Slice:
    positions = [n for n, query in enumerate(results.queries) if name in (ALL, *query.slices)]
    return Slice.of(positions)


def _interval(strata: list[Floats]) -> str:
    found = estimate(*strata)
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


class Cost(NamedTuple):
    """Of one comparison; medians."""

    prompts: float
    read: float  # tokens, with what all prompts share
    computed: float  # tokens, without what is in the prefix cache
    milliseconds: float


async def costs(by: Sequence[ComparedBy]) -> tuple[dict[str, Cost], float, float]:
    """The cost of each way, the time of a greedy rewrite, and a floor for the likelihood, in ms."""
    evaluation = evaluation_of(asked("demo", [AUTO], 3))
    retriever = evaluation.retriever
    rows = [row for row in evaluation.rows if row.task == "multilingual" and row.language != "en"]
    rows = rows[:TIMED]
    found = retriever.index.search(
        retriever.encoder.encode_texts([row.query for row in rows]), CANDIDATES
    )
    texts = [
        [text_of(item.record) for item in retriever.index.items.at([hit.position for hit in hits])]
        for hits in found
    ]
    checkpoint = find_checkpoint("gemma3-270m")
    adapter = open_adapter(paths.ADAPTER, checkpoint_revision(checkpoint))
    rewriter = VLLMRewriter(VLLMOptions(str(checkpoint)), adapter, paths.merged_dir())
    try:
        prompts = [Prompt(adapter.tasks["multilingual"], row.query) for row in rows]
        await rewriter.complete(prompts[0], Sampling())
        rewrite = [await _timed(rewriter.complete(prompt, Sampling())) for prompt in prompts]
        table: dict[str, Cost] = {}
        for way in by:
            comparisons = _comparisons(way, rows, texts)
            await compared(rewriter, comparisons[0])
            times = [await _timed(compared(rewriter, one)) for one in comparisons]
            table[way] = _cost(rewriter, comparisons, times)
        floor = _floor_ms(rewriter, _comparisons("likelihood", rows, texts))
    finally:
        await rewriter.close()
    return table, float(np.median(rewrite)), floor


def _comparisons(
    by: ComparedBy, rows: Sequence[Row], texts: Sequence[Sequence[str | None]]
) -> list[Comparison]:
    made = [comparison(by, row.query, own) for row, own in zip(rows, texts, strict=True)]
    return [one for one in made if one]


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
    """The lines of the second table."""
    yield "| | prompts | tokens read | of them computed | ms | beside a greedy rewrite |"
    yield "|---|--:|--:|--:|--:|--:|"
    yield f"| one greedy rewrite | 1 | | | {rewrite:.0f} | 1 |"
    for name, cost in table.items():
        yield (
            f"| 20 candidates by {name} | {cost.prompts:.0f} | {cost.read:.0f} "
            f"| {cost.computed:.0f} | {cost.milliseconds:.0f} | {cost.milliseconds / rewrite:.1f} |"
        )
    yield f"| the matrix products of the likelihood | | | | {floor:.0f} | {floor / rewrite:.1f} |"


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, default=25, help="queries of each language and task")
    parser.add_argument("--skip-groups", action="store_true", help="measure the likelihood alone")
    parser.add_argument("--write", action="store_true", help="write the tables into the page")
    arguments = parser.parse_args()
    by: list[ComparedBy] = ["likelihood"] if arguments.skip_groups else ["likelihood", "group"]
    systems = [AUTO, LIKELIHOOD, GROUP][: 1 + len(by)]
    table = list(cost_lines(*asyncio.run(costs(by))))
    print("\n".join(table), flush=True)
    results = {data: evaluate(asked(data, systems, arguments.limit)) for data, *_ in ROWS}
    lines = list(recalls(results, systems))
    print("\n".join(lines), flush=True)
    if arguments.write:
        write_between(PAGE, "cost", "\n".join(table))
        write_between(PAGE, "recall", "\n".join(lines))


if __name__ == "__main__":
    main()
