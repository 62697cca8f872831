"""Fitting a mixture: it finds what made the data, and keeps what the data cannot tell."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import grape
from models.common.errors import InputError
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.retriever.types import Vectors
from models.rewriter.protocol import Completion
from models.search.fusion import Fusing
from models.search.gate import Gate, Kind
from models.search.mixture import MIXTURE_JSON, Mixture
from tests.support.vectors import unit_vectors
from training.data.rows import Row
from training.evaluation import mixture_fit
from training.evaluation.bench import Bench
from training.evaluation.measured import Fitted, Measured
from training.evaluation.mixture_fit import CHANGE, best_mixture
from training.evaluation.retrieval import Question, retrieve
from training.evaluation.run import Evaluation
from training.evaluation.settings import EvalSettings
from training.evaluation.systems import SystemSpec
from training.rewards.ranking import Corpus, Floats
from training.rewards.scorer import Retriever
from training.stages.sampling import Samples

PICTURES = unit_vectors(300, 1)
QUERIES = 400


def softmax(cosines: Vectors, tau: float) -> Floats:
    shares = np.exp(cosines.astype(float) / tau)
    p: Floats = shares / shares.sum(axis=-1, keepdims=True)
    return p


class World:
    """Queries of one component besides a single rewrite; targets are drawn from their mixture."""

    def __init__(self, kinds: Sequence[Kind | None], weights: Sequence[float], tau: float) -> None:
        self.kinds, self.measured = list(kinds), 0
        self._vectors = unit_vectors(2 * len(kinds), 2).reshape(len(kinds), 2, -1)
        shares = np.stack([1 - np.array(weights), np.array(weights)], axis=1)
        p = np.einsum("qc,qcn->qn", shares, softmax(self._vectors @ PICTURES.T, tau))
        rng = np.random.default_rng(3)
        self._targets = [int(rng.choice(len(PICTURES), p=row)) for row in p]

    def measure(self, mixture: Mixture) -> Measured:
        assert mixture.tau
        self.measured += 1
        shares = [mixture.typed[kind] if kind else mixture.reference for kind in self.kinds]
        questions = [
            Question(vectors, Fusing("mixture", mixture.tau, (1 - share, share)), [target])
            for vectors, share, target in zip(self._vectors, shares, self._targets, strict=True)
        ]
        found = retrieve(Corpus.of(PICTURES), questions)
        return SimpleNamespace(  # type: ignore[return-value]
            ranks=found.ranks.astype(int).tolist(),
            first_probability=found.first_probability,
            target_probability=found.target_probability,
            first_without=found.first_without,
        )


@pytest.mark.parametrize("tau", [0.035, 0.1])
def test_tau_is_that_which_drew_the_targets(tau: float) -> None:
    default = Mixture().typed["other"]
    world = World(["other"] * QUERIES, [default] * QUERIES, tau)
    assert best_mixture(world.measure, world.kinds, Mixture()).tau == tau


def test_confident_is_what_is_right_more_often_than_not() -> None:
    found = SimpleNamespace(
        first_probability=[0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3],
        ranks=[1, 1, 3, 1, 2, 9, 1],
        first_without=[0.1, 0.65, 0.55, 0.2, 0.45, 0.3, 0.1],
    )
    every = np.ones(7, bool)
    # Right are .9, .8 and .6; the first of the wrong ones are .7, .65, .55, and then .5.
    assert mixture_fit._confident_from(found, every) == 0.55  # type: ignore[arg-type]
    assert mixture_fit._confident_from(found, every & (np.arange(7) > 3)) == 1.0  # type: ignore[arg-type]


def test_each_kind_of_query_has_its_own_weight() -> None:
    parts: list[tuple[Kind | None, int]] = [
        ("known", 200), ("foreign", 200), ("script", 5), (None, 200),
    ]  # fmt: skip
    kinds = [kind for kind, count in parts for _ in range(count)]
    truth = [0.5] * 200 + [0.0] * 200 + [0.5] * 5 + [0.5] * 200
    world = World(kinds, truth, 0.05)
    fitted = best_mixture(world.measure, kinds, Mixture())
    assert fitted.typed["known"] >= 0.25
    assert fitted.typed["foreign"] <= 0.1
    assert fitted.reference >= 0.35
    # Of these there are too few queries, or none.
    untold: tuple[Kind, ...] = ("script", "plain", "other", "long")
    assert all(fitted.typed[kind] == Mixture().typed[kind] for kind in untold)


def test_what_the_data_cannot_tell_stays_as_it_is_served() -> None:
    served = Mixture(tau=0.07, typed=dict.fromkeys(Mixture().typed, 0.1), fitted_on="names")
    changes = World([None] * 200, [0.5] * 200, 0.07)
    fitted = best_mixture(changes.measure, changes.kinds, served)
    assert (fitted.tau, fitted.typed) == (0.07, served.typed)
    assert fitted.reference > 0.2
    assert changes.measured == sum(map(len, CHANGE.values()))
    assert fitted.change == served.change  # no query has words of its own
    assert mixture_fit._fitted_on("changes", changes.kinds, served) == "names; changes"
    assert mixture_fit._fitted_on("both", [None, "known"], served) == "both"
    assert mixture_fit._fitted_on("names", ["known"], served) == "names"
    texts = World(["known"] * 25, [0.1] * 25, 0.05)
    assert best_mixture(texts.measure, texts.kinds, served).reference == served.reference


def test_a_handful_of_queries_is_refused() -> None:
    kinds: list[Kind | None] = ["known", None] * 19
    few = World(kinds, [0.5] * 38, 0.05)
    with pytest.raises(InputError, match="at least 20 queries"):
        best_mixture(few.measure, few.kinds, Mixture())


@pytest.mark.parametrize("system", ["always", "frozen-always"])
def test_the_fit_is_saved_beside_the_adapter_or_else_the_index(
    system: str,
    encoder: ClipEncoder,
    demo_index: ImageIndex,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """English names are forced to be rewritten, into another name; Germans' are translated."""
    records = list(zip(demo_index.ids, demo_index.metadata, strict=True))
    rows: list[Row] = []
    written: dict[str, str] = {}
    for place in range(0, 90, 3):
        (picture, own), (_, other) = records[place], records[place + 300]
        german, english = own["names"]["de"], own["names"]["en"]
        rows += [
            Row(query=english, targets=(picture,), language="en", split="validation"),
            Row(query=german, targets=(picture,), language="de", split="validation"),
        ]
        written |= {english: other["names"]["en"], german: english}

    def samples(self: Bench, spec: SystemSpec, some: list[Row]) -> dict[Row, Samples]:
        return {row: Samples("", (), best=(Completion(written[row.query], 0.4),)) for row in some}

    def evaluation_of(asked: EvalSettings) -> Evaluation:
        assert (asked.split, asked.systems) == ("validation", [system])
        corpus = Corpus.of(demo_index.vectors())
        base = SimpleNamespace(revision="r", chat=lambda *_: None)
        adapter = SimpleNamespace(tasks_with=lambda _: {}, content_sha256="a")
        retriever = Retriever(encoder, demo_index, corpus)
        fitted = Fitted(Gate(), Mixture())
        return Evaluation(asked, rows, retriever, base, adapter, fitted)  # type: ignore[arg-type]

    monkeypatch.setattr(Bench, "_samples", samples)
    monkeypatch.setattr(Bench, "_count", lambda *_: 0)
    monkeypatch.setattr(mixture_fit, "evaluation_of", evaluation_of)
    served = ["--adapter", str(tmp_path)]
    if system == "frozen-always":
        served = ["--adapter", "none", "--index", str(tmp_path)]
    assert grape.run(["eval", "--fit-mixture", *served, "--work", str(tmp_path / "work")]) == 0
    fitted = Mixture.in_folder(tmp_path, encoder.fingerprint.weights_sha256)
    assert fitted.fitted_on == (
        f"demo, split validation: {len(rows)} queries in a gallery of {len(demo_index):,} pictures"
    )
    assert fitted.tau in mixture_fit.TAUS
    assert fitted.typed["known"] > 0
    said = capsys.readouterr().out
    assert said.startswith(f"{tmp_path / MIXTURE_JSON}: tau {fitted.tau:.3g}. ")
    assert "R@10 of rewriting every query is 0.9" in said or "every query is 1.000" in said
