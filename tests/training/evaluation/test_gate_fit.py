"""Fitting the gate, on queries with known outcomes."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import grape
from models.common import paths
from models.retriever.types import TextLength
from models.search.gate import GATE_JSON, Gate, GateInput, GateSignals, decide, read_signals
from training.data.rows import Row
from training.evaluation import gate_fit
from training.evaluation.gate_fit import Labelled, best_gate, gate_score
from training.evaluation.queries import described
from training.evaluation.results import Results
from training.evaluation.run import Evaluation, evaluation_of, measure
from training.evaluation.settings import EvalSettings
from training.evaluation.summarise import gate_note

KNOWN = tuple(np.linspace(0.4, 0.6, 101).tolist())
DESCRIPTION = "the round red thing that hangs on a tree in autumn and is eaten"
QUERIES = ["red apple", "roter Apfel", "слон", "Hotel", DESCRIPTION]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(QUERIES), st.floats(-1, 1), st.integers(1, 100)),
        min_size=1,
    ),
    st.floats(0, 1),
    st.floats(0, 1),
    st.none() | st.floats(0, 1),
)
def test_the_fit_sees_what_serving_decides(
    asked: list[tuple[str, float, int]], plain: float, other: float, description: float | None
) -> None:
    gate = Gate(plain=plain, other=other, description=description)
    gate_inputs = [GateInput(TextLength(length, 77), best, KNOWN) for _, best, length in asked]
    queries = [query for query, *_ in asked]
    signals = [
        read_signals(query, gate_input)
        for query, gate_input in zip(queries, gate_inputs, strict=True)
    ]
    decided = [
        decide(q, gate_input, gate).rewrite
        for q, gate_input in zip(queries, gate_inputs, strict=True)
    ]
    assert gate_fit._rewritten(signals, gate).tolist() == decided


def test_the_best_gate_parts_what_the_encoder_knows_from_the_rest() -> None:
    known_english = [GateSignals(None, True, 0.1 + place / 100) for place in range(50)]
    descriptions = [
        GateSignals(None, True, 0.02)
    ] * 30  # plain English that the encoder does not know
    german = [GateSignals(None, False, 0.0)] * 50
    loans = [GateSignals(None, False, 0.7)] * 20  # "Hotel": found as typed, and lost when rewritten
    found = best_gate(
        Labelled(
            known_english + descriptions + german + loans,
            english=np.arange(150) < 50,
            direct=np.array([True] * 50 + [False] * 80 + [True] * 20),
            rewritten=np.array([False] * 50 + [True] * 80 + [False] * 20),
        )
    )
    gate, score = found
    assert 0.02 < gate.plain <= 0.1
    assert 0.0 < gate.other <= 0.7
    assert score == pytest.approx((1.0, 1.0, 1.0, 1.0, 0.6, 0.8))


def test_descriptions_have_a_threshold_of_their_own_if_there_are_enough() -> None:
    """Their best pictures score as high as those of known names, and are the wrong ones."""
    names = [GateSignals(None, True, 0.5)] * 30
    misread = [GateSignals(None, True, 0.5, description=True)] * 25
    read = [GateSignals(None, True, 0.9, description=True)] * 5
    labelled = Labelled(
        names + misread + read,
        english=np.arange(60) < 30,
        direct=np.array([True] * 30 + [False] * 25 + [True] * 5),
        rewritten=np.array([False] * 30 + [True] * 25 + [False] * 5),
    )
    gate, score = best_gate(labelled)
    assert gate.plain <= 0.5 < (gate.description or 0) <= 0.9
    assert score.hits == 1
    few = Labelled(
        labelled.signals[:45], labelled.english[:45], labelled.direct[:45], labelled.rewritten[:45]
    )
    assert best_gate(few)[0].description is None


def test_what_a_gate_does_is_counted() -> None:
    labelled = Labelled(
        [
            GateSignals(None, True, 0.5),
            GateSignals(None, True, 0.0),
            GateSignals("foreign", False, 0.9),
        ],
        english=np.array([True, True, False]),
        direct=np.array([True, True, False]),
        rewritten=np.array([True, False, True]),
    )
    score = gate_score(labelled, Gate(plain=0.1, other=0.1))
    assert score == (0.75, 0.5, 0.5, 1.0, 1.0, 1.0)


@pytest.mark.heavy
def test_the_fitted_gate_is_saved_beside_the_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The validation split of the demo, with the oracle in place of a perfect adapter."""

    def with_the_oracle(asked: EvalSettings) -> Evaluation:
        assert (asked.split, asked.systems) == ("validation", ["direct", "auto"])
        return evaluation_of(asked.model_copy(update={"systems": ["direct", "oracle"]}))

    def named_as_asked(evaluation: Evaluation) -> Results:
        found = measure(evaluation)
        assert {query.gate for query in found.queries} == {"rewritten"}
        found.systems[1].name = "auto"
        return found

    monkeypatch.setattr(gate_fit, "evaluation_of", with_the_oracle)
    monkeypatch.setattr(gate_fit, "measure", named_as_asked)
    flags = ["--adapter", str(tmp_path), "--limit", "20", "--work", str(tmp_path / "work")]
    assert grape.run(["eval", "--fit-gate", *flags]) == 0
    fitted = Gate.for_adapter(tmp_path)
    assert "split validation" in fitted.fitted_on
    assert json.loads((tmp_path / GATE_JSON).read_text())["plain"] == fitted.plain
    assert "skips the language model" in capsys.readouterr().out


def test_a_report_tells_what_the_gate_keeps() -> None:
    english = [described(Row(query="guitar", targets=("a",), language="en"), False)] * 4
    asked = [described(Row(query="guitar", targets=("a",), language="en"), True)]
    german = [described(Row(query="Gitarre", targets=("a",), language="de"), True)] * 4
    ranks = {
        "direct": [1] * 5 + [50, 50, 50, 1],
        "always": [1] * 5 + [1, 1, 1, 1],
        "auto": [1] * 5 + [1, 1, 50, 1],
    }
    measured = {name: SimpleNamespace(ranks=found) for name, found in ranks.items()}
    (note,) = gate_note([*english, *asked, *german], measured)  # type: ignore[arg-type]
    assert "80.0% of short plain English skips" in note
    assert "`auto` keeps 66.7%" in note
    assert gate_note(german, measured) == []  # type: ignore[arg-type]


def test_the_shipped_gate_was_fitted() -> None:
    assert Gate.for_adapter(paths.ADAPTER).fitted_on
