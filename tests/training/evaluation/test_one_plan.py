"""Serving, evaluation and the mteb model search for the same things, and fuse them alike."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from datasets import Dataset

from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.rewriter.protocol import Completion, Completions, OnText, Prompt, Sampling
from models.rewriter.tasks import choose_task
from models.search.compare import compared
from models.search.gate import Gate
from models.search.mixture import Mixture
from models.search.options import ComparedBy, Fusion, RewriteMode
from models.search.rerank import Comparison
from tests.support.app import COLOURS, FakeRewriter
from tests.support.completions import completions
from tests.support.loopback import listening
from training.data.rows import Row
from training.evaluation.bench import Bench
from training.evaluation.costs import Paid
from training.evaluation.gallery import Gallery
from training.evaluation.measured import Fitted
from training.evaluation.mteb import ServedModel
from training.evaluation.reranking import Answered, Reranking
from training.evaluation.settings import EvalSettings
from training.evaluation.systems import SystemSpec
from training.stages.sampling import Engine, Samples

LONG = "we were looking everywhere for this picture of the green square " * 8
LIKELIHOODS = {"black": -1.0, "yellow": -2.0, "blue": -2.5}  # of every query, after a caption
REWRITES = {
    "ein rotes Bild": ["a red square", "a black square"],
    "ein Bild von Himmel": ["a blue square", "a blue sky", "yellow"],
    "a green square": ["a yellow square", "a red square"],  # plain English that is known
    LONG.strip(): ["a green square", "something black"],
    "ein Bild": ["a black square", "ein Bild", "a red square"],  # one repeats the query
    "nichts": [],  # no usable rewrite
}


class Writes(FakeRewriter):
    """As many of a query's rewrites as are wanted."""

    async def complete(
        self,
        prompt: Prompt,
        sampling: Sampling,
        on_text: OnText | None = None,
        within_s: float | None = None,
    ) -> Completions:
        return completions(*(f" {text}" for text in written(prompt.query) or ["?"]))


def written(query: str) -> list[str]:
    """Also of the parts that a long query is rewritten in."""
    return REWRITES.get(query, ["a green square"])


@pytest.fixture
def rewriter() -> FakeRewriter:
    return Writes()


def evaluated(
    index: ImageIndex,
    encoder: ClipEncoder,
    options: tuple[RewriteMode, Fusion],
    monkeypatch: pytest.MonkeyPatch,
    work: Path,
    rerank: ComparedBy | None = None,
) -> dict[str, list[str]]:
    def samples(self: Bench, spec: SystemSpec, rows: list[Row]) -> dict[Row, Samples]:
        answers = {row: written(row.query) or ["?"] for row in rows}
        return {
            row: Samples(texts[0], (), best=tuple(map(Completion, texts)))
            for row, texts in answers.items()
        }

    monkeypatch.setattr(Bench, "_samples", samples)
    monkeypatch.setattr(Bench, "_paid", lambda *_: Paid())
    monkeypatch.setattr(Bench, "_reranking", lambda *_: Reranking("likelihood", 0.5, scored))
    rewrite, fusion = options
    rows = [Row(query=q, targets=("blue.png",), task=choose_task(q).name) for q in REWRITES]
    with Engine() as engine:
        bench = Bench(EvalSettings(work=work), rows, None, None, Fitted(Gate(), Mixture()), engine)
        spec = SystemSpec(
            "as served", "tuned", rewrite=rewrite, fusion=fusion, finds="best", rerank=rerank
        )
        found = bench._measure(spec, Gallery(encoder, index, "cpu"))
    return {
        row.query: [index.ids[position] for position in top]
        for row, top in zip(rows, found.top, strict=True)
    }


def scored(asked: Sequence[Comparison]) -> list[Answered]:
    """As the server's language model scores them."""
    rewriter = Writes()
    rewriter.likelihoods = LIKELIHOODS
    return [Answered(asyncio.run(compared(rewriter, one)), Paid()) for one in asked]


def by_mteb(
    url: str, encoder: ClipEncoder, folder: Path, options: tuple[RewriteMode, Fusion]
) -> dict[str, list[str]]:
    import datasets

    files = [folder / f"{name}.png" for name in COLOURS]  # in the order of the index
    corpus = Dataset.from_dict(
        {"id": [file.name for file in files], "image": [str(file) for file in files]}
    ).cast_column("image", datasets.Image())
    queries = Dataset.from_dict({"id": list(REWRITES), "text": list(REWRITES)})
    sides = {"query": ["text"], "document": ["image"]}
    task = SimpleNamespace(name="Squares", get_modalities=lambda side: sides[side.value])
    given: dict[str, Any] = {
        "task_metadata": task, "hf_split": "test", "hf_subset": "default",
        "encode_kwargs": {"show_progress_bar": False}, "num_proc": None,
    }  # fmt: skip
    rewrite, fusion = options
    model = ServedModel(url, encoder, rewrite=rewrite, fusion=fusion, n=3)
    model.index(corpus, **given)
    found = model.search(queries, top_k=5, **given)
    return {q: sorted(scores, key=lambda i: -scores[i]) for q, scores in found.items()}


@pytest.mark.parametrize("rewrite", ["always", "auto"])
@pytest.mark.parametrize("fusion", get_args(Fusion))
async def test_all_three_give_the_same_list(
    start: Any,
    small_index: Path,
    encoder: ClipEncoder,
    fusion: Fusion,
    rewrite: RewriteMode,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    client = await start()
    body = {"query": list(REWRITES), "rewrite": rewrite, "fusion": fusion, "n": 3}
    answer = (await client.post("/search", json=body)).json()
    served = {r["query"]: [hit["id"] for hit in r["hits"]] for r in answer["results"]}
    statuses = {r["query"]: r["rewrite"]["status"] for r in answer["results"]}
    assert statuses["ein rotes Bild"] == "rewritten"
    assert statuses["nichts"] == "fallback"
    index = ImageIndex.open(small_index, encoder.fingerprint)
    options = (rewrite, fusion)
    ours = await asyncio.to_thread(evaluated, index, encoder, options, monkeypatch, tmp_path)
    async with listening(client) as url:
        theirs = await asyncio.to_thread(by_mteb, url, encoder, small_index.parent, options)
    assert ours == served
    assert theirs == served


async def test_reranked_lists_are_the_same(
    start: Any,
    rewriter: FakeRewriter,
    small_index: Path,
    encoder: ClipEncoder,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    client = await start()
    rewriter.likelihoods = LIKELIHOODS
    body = {"query": list(REWRITES), "rewrite": "auto", "fusion": "auto", "n": 3}
    plain = (await client.post("/search", json=body)).json()["results"]
    answer = (await client.post("/search", json=body | {"rerank": True})).json()["results"]
    served = {r["query"]: [hit["id"] for hit in r["hits"]] for r in answer}
    assert served != {r["query"]: [hit["id"] for hit in r["hits"]] for r in plain}
    index = ImageIndex.open(small_index, encoder.fingerprint)
    ours = await asyncio.to_thread(
        evaluated, index, encoder, ("auto", "auto"), monkeypatch, tmp_path, "likelihood"
    )
    assert ours == served
