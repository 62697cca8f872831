"""The form in which Milvus compares values: it must sort and find as SQLite does."""

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.retriever.fields import Kind
from models.retriever.filters import FilterError, parse_filter
from models.retriever.milvus_filters import (
    EVERYTHING,
    _number,
    count_fields,
    expression,
    values_field,
)

whole = st.integers(-(2**63) + 1, 2**63 - 1)
broken = st.floats(allow_nan=False)
near = st.integers(-3, 3).flatmap(lambda n: st.sampled_from([2**53 + n, -(2**62) + n, n, n + 0.5]))


@given(whole | broken | near, whole | broken | near)
def test_numbers_sort_as_they_are(one: float, other: float) -> None:
    assert (_number(one) < _number(other)) == (one < other)
    assert (_number(one) == _number(other)) == (one == other)
    assert len(_number(one)) == 20


def test_the_ends_of_the_numbers_fit() -> None:
    ends = [-math.inf, -sys.float_info.max, -(2**63) + 1, -0.0, 5e-324, 2**63 - 1, math.inf]
    assert sorted(map(_number, ends)) == list(map(_number, ends))
    assert _number(-0.0) == _number(0)


def fields_of(*records: dict[str, object]) -> dict[str, dict[Kind, int]]:
    fields: dict[str, dict[Kind, int]] = {}
    for record in records:
        count_fields(fields, record)
    return fields


def test_no_text_of_a_filter_gets_into_an_expression() -> None:
    """Whatever is typed, Milvus reads letters and digits of ours alone."""
    hostile = '"] or true or values["x'
    fields = fields_of({hostile: hostile, "a": "b"})
    wanted = {hostile: {"prefix": hostile, "in": [hostile, "%_\\'"]}, "not": {"a": hostile}}
    text = expression(parse_filter(wanted), fields)
    assert "true" not in text
    allowed = set('abcdefghijklmnopqrstuvwxyz0123456789_ "()[],%<>=')
    assert set(text) <= allowed, set(text) - allowed


def test_a_filter_of_nothing_is_true_of_everything() -> None:
    fields = fields_of({"a": 1})
    assert expression(parse_filter({}), fields) == f"({EVERYTHING})"


def test_lists_name_each_place_and_too_long_ones_are_refused() -> None:
    fields = fields_of({"n": list(range(3))}, {"n": 7}, {"many": list(range(300))})
    text = expression(parse_filter({"n": {"gt": 1}}), fields)
    assert [f"[{place}]" in text for place in range(4)] == [True, True, True, False]
    with pytest.raises(FilterError, match=r"filter\.many: a picture has 300 values"):
        expression(parse_filter({"many": {"lt": 3}}), fields)
    assert "json_contains" in expression(parse_filter({"many": 3}), fields)


def test_a_record_has_its_values_under_field_and_kind() -> None:
    values = values_field({"year": 2020, "tags": ["a", "b", "a"], "sign": "❤️", "no": None})
    kinds = sorted(key.partition("_")[0] for key in values)
    assert kinds == ["number", "signs", "text", "text", "words"]
    assert values["signs"] == ["❤".encode().hex()]
    assert len(values["words"]) == 3
