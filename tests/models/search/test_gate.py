"""The gate: words, script, length, and how the query scores as typed."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.common.errors import InputError
from models.retriever.types import TextLength
from models.search.gate import GATE_JSON, Gate, GateInput, decide

SHORT = TextLength(5, 77)
KNOWN = [0.5 + place / 1000 for place in range(101)]  # a known query's best scores .50 to .60


@pytest.mark.parametrize(
    "query",
    [
        "red apple",
        "dragon",
        "a cat on a chair",
        "banana",
        "the man with a hat",
        "42",
        "smiling face",
    ],
)
def test_plain_english_is_kept(query: str) -> None:
    assert not decide(query, GateInput(SHORT, None, None), Gate()).rewrite


@pytest.mark.parametrize(
    "query",
    [
        "Drache", "ein roter Apfel", "caballo", "une pomme rouge", "ペンギン", "西瓜", "слон",
        "فيل", "kırmızı elma", "gajah", "🙂 перо", "mela rossa", "maçã vermelha",
    ],
)  # fmt: skip
def test_other_languages_are_rewritten(query: str) -> None:
    assert decide(query, GateInput(SHORT, 0.9, None), Gate()).rewrite


def test_what_the_encoder_would_cut_is_rewritten() -> None:
    gate_input = GateInput(TextLength(122, 77), 0.9, KNOWN)
    decision = decide("the red apple " * 40, gate_input, Gate())
    assert decision == (True, "longer than the 77 tokens that the encoder reads", "long")


def test_a_text_that_runs_on_is_rewritten_however_well_it_scores() -> None:
    query = "An elephant walks through the grass. It has a long trunk."
    gate_input = GateInput(TextLength(20, 77), 0.9, KNOWN)
    assert not decide(query, gate_input, Gate()).rewrite
    decision = decide(f"{query} The sky is blue.", gate_input, Gate())
    assert decision == (True, "a text of 3 sentences", "long")
    for caption in (
        "Mr. and Mrs. Claus stand in the snow next to a big red sleigh",
        "a photo of a cat... a dog... and a bird sitting on the same sofa",
    ):
        assert not decide(caption, gate_input, Gate()).rewrite


@pytest.mark.parametrize(
    ("query", "best", "rewrite", "reason"),
    [
        ("red apple", 0.56, False, "plain English, and the encoder knows it"),
        ("red apple", 0.33, True, "plain English, but the encoder does not know it"),
        ("moai", 0.33, True, "not plain English, and the encoder does not know it"),
        ("moai", 0.58, False, "not plain English, but the encoder knows it"),
        ("Geschenk", 0.58, True, "words of another language"),
        ("слон", 0.58, True, "not in Latin script"),
        ("xe đạp điện", 0.33, True, "not plain English, and the encoder does not know it"),
    ],
)
def test_the_score_as_typed_decides(query: str, best: float, rewrite: bool, reason: str) -> None:
    decision = decide(query, GateInput(SHORT, best, KNOWN), Gate())
    assert decision.rewrite == rewrite
    assert decision.reason.startswith(reason)
    if "encoder" in reason:
        assert decision.reason.endswith(f"the best picture scores {best:.2f}")


def test_a_description_may_need_a_higher_score_than_a_name() -> None:
    query = "a big grey animal with a long trunk stands in the grass"
    gate_input = GateInput(SHORT, 0.58, KNOWN)
    assert not decide(query, gate_input, Gate()).rewrite
    fitted = Gate(description=0.9)
    assert decide(query, gate_input, fitted) == (
        True, "a description: the best picture scores 0.58", "plain"
    )  # fmt: skip
    assert not decide(query, gate_input._replace(best_score=0.6), fitted).rewrite
    assert not decide("a big grey animal", gate_input, fitted).rewrite


@settings(deadline=None)  # the first call loads the word lists
@given(st.text(), st.floats(-1, 1), st.floats(-1, 1))
def test_a_higher_score_never_makes_it_rewrite(query: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    kept = not decide(query, GateInput(SHORT, low, KNOWN), Gate()).rewrite
    assert not kept or not decide(query, GateInput(SHORT, high, KNOWN), Gate()).rewrite


def test_a_fitted_gate_lies_beside_the_adapter(tmp_path: Path) -> None:
    assert Gate.for_adapter(tmp_path) == Gate()
    fitted = Gate(plain=0.02, other=0.3)
    (tmp_path / GATE_JSON).write_text(fitted.model_dump_json())
    assert Gate.for_adapter(tmp_path) == fitted
    for broken in ("", "{", '{"plain": 2}', '{"plian": 0.1}'):
        (tmp_path / GATE_JSON).write_text(broken)
        with pytest.raises(InputError, match="--fit-gate"):
            Gate.for_adapter(tmp_path)
