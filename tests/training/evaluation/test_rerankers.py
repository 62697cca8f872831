"""Which model reranks in which system, and with which weight."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from models.rewriter.adapter import Adapter, AdapterManifest
from models.rewriter.tasks import LIKELIHOOD, RERANK_TASKS
from models.search.compare import Tasks
from models.search.gate import Gate
from models.search.mixture import Mixture
from models.search.rerank import Comparison
from training.evaluation.bench import Bench
from training.evaluation.costs import Paid, per_query
from training.evaluation.listwise import Written, windows
from training.evaluation.measured import Fitted
from training.evaluation.settings import EvalSettings
from training.evaluation.systems import SYSTEMS
from training.stages.scoring import Scores

ASKED = Comparison("likelihood", "likelihood", "Hund", ["dog", "cat"])


class AskedEngine:
    """Records which model is asked, and which file keeps the answer."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.tasks: Tasks = {}

    def scores(
        self, model: str, asked: Sequence[Comparison], path: Path, tasks: Tasks
    ) -> list[Scores]:
        self.tasks = tasks
        self.asked.append((model, path.name))
        return [Scores([-1.0, -2.0], 0.5) for _ in asked]

    def run(self, model: str, work: Any) -> list[Written]:
        self.asked.append((model, "orders"))
        return [Written(["2 > 1"] * len(windows(2)), 0.5)]


@pytest.mark.parametrize(
    ("name", "asked", "weighed", "values"),
    [
        ("rerank", ("frozen", "scores-frozen-rev.jsonl"), True, [-1.0, -2.0]),
        ("auto+rerank", ("tuned", "scores-tuned-rev.jsonl"), True, [-1.0, -2.0]),
        ("auto+rerank-group", ("tuned", "scores-tuned-rev.jsonl"), True, [-1.0, -2.0]),
        ("auto+rerank-frozen", ("frozen", "scores-frozen-rev.jsonl"), True, [-1.0, -2.0]),
        ("auto+rerank-listwise", ("frozen", "orders"), False, [-1.0, 0.0]),
    ],
)
def test_the_model_and_the_weight_of_each_system(
    name: str,
    asked: tuple[str, str],
    weighed: bool,
    values: list[float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Bench, "_model", lambda _, model: (model, model))
    monkeypatch.setattr(Bench, "_base_revision", "rev")
    monkeypatch.setattr(Bench, "_count", lambda _, texts: sum(map(len, texts)))
    engine: Any = AskedEngine()
    mixture = Mixture(rerank={"likelihood": 0.25, "group": 0.75})
    bench = Bench(EvalSettings(work=tmp_path), [], None, None, Fitted(Gate(), mixture), engine)
    spec = SYSTEMS[name]
    how = bench._reranking(spec)
    (answer,) = how.ask([ASKED._replace(by=str(spec.rerank))])
    assert engine.asked == [asked]
    assert answer.values == values
    assert answer.paid.seconds == 0.5
    assert how.by == spec.rerank
    assert how.weight == (mixture.model_dump()["rerank"][how.by] if weighed else None)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("auto+rerank", "reranker"),
        ("auto+rerank-group", "tuned"),
        ("auto+rerank-frozen", "frozen"),
        ("auto+rerank-listwise", "frozen"),
    ],
)
def test_a_reranker_is_asked_for_what_it_was_trained_for(
    name: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the likelihood, which was trained on the short prompt."""
    manifest = AdapterManifest.model_construct(  # type: ignore[call-arg]
        tasks={"likelihood": LIKELIHOOD.short.hash}, canaries=[]
    )
    reranker = Adapter(folder=tmp_path, manifest=manifest, rank=4, content_sha256="0" * 64)
    monkeypatch.setattr(Bench, "_model", lambda _, model: (model, model))
    monkeypatch.setattr(Bench, "_merged", lambda _, adapter: ("reranker", "reranker"))
    monkeypatch.setattr(Bench, "_base_revision", "rev")
    monkeypatch.setattr(Bench, "_count", lambda _, texts: 0)
    engine: Any = AskedEngine()
    bench = Bench(
        EvalSettings(work=tmp_path), [], None, None, Fitted(Gate(), Mixture()), engine,
        reranker=reranker,
    )  # fmt: skip
    spec = SYSTEMS[name]
    bench._reranking(spec).ask([ASKED._replace(by=str(spec.rerank))])
    assert [asked for asked, _ in engine.asked] == [model]
    if model == "reranker":
        assert engine.tasks == {**RERANK_TASKS, "likelihood": LIKELIHOOD.short}
    elif engine.tasks:
        assert engine.tasks == RERANK_TASKS


def test_every_reranker_but_the_one_without_an_adapter_has_the_candidates_of_auto() -> None:
    auto = SYSTEMS["auto"]
    for name, spec in SYSTEMS.items():
        if spec.rerank and name != "rerank":
            found = spec._replace(about=auto.about, rerank=None, frozen_judge=False)
            assert found == auto, name
    alone = SYSTEMS["rerank"]
    assert (alone.model, alone.rewrite, alone.prompt) == ("frozen", "auto", "examples")


def test_costs_are_averages_of_a_query() -> None:
    paid = [Paid(2, 100, 8, 1.0), Paid(3, 60, seconds=0.5), Paid(1, 20, 4, 0.5)]
    cost = per_query(paid, searches=6, queries=4)
    assert cost.model_dump() == {
        "prompts": 1.5, "prompt_tokens": 45, "written_tokens": 3, "llm_seconds": 0.5,
        "searches": 1.5,
    }  # fmt: skip
    assert per_query([], 4, 4).prompts == 0
