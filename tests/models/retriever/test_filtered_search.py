"""Filters against plain Python on random metadata, and filtered searches against brute force."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.client.wire import SearchHit
from models.retriever import faiss_index, image_index
from models.retriever.filters import FilterError, parse_filter, parse_filter_text
from models.retriever.image_index import ImageIndex
from models.retriever.manifest import EncoderFingerprint, IndexOptions
from models.retriever.types import Vectors
from tests.support.vectors import DIM, unit_vectors

FINGERPRINT = EncoderFingerprint(
    name="t", pretrained=None, weights_sha256="", preprocess_sha256="", tokenizer_sha256="", dim=DIM
)
TEXTS = ["red", "Red", "re", "", "é", "\U0010ffff", "x" * 300, "x" * 299 + "y", "a.b\\c"]
DATES = ["2024-02-29", "2024-02-29T12:30:00Z", "2024-02-29T23:00:00-05:00", "2023-12-31 10:00"]
NUMBERS = [0, 1, -2, 0.5, 10**20, True, False]
scalars = st.sampled_from([*TEXTS, *DATES, *NUMBERS, None])
KEYS = ["a", "b.c", "d"]
nested = st.dictionaries(st.sampled_from(KEYS), scalars | st.lists(scalars, max_size=3))
records = st.dictionaries(
    st.sampled_from(KEYS), scalars | st.lists(scalars | nested, max_size=3) | nested, max_size=3
)
FIELDS = {"a": ("a",), "b\\.c": ("b.c",), "d": ("d",), "a.a": ("a", "a"), "a.b\\.c": ("a", "b.c")}
# One record has every field with every kind of value, so that no filter is refused.
EVERY: list[Any] = [*TEXTS, *DATES, *NUMBERS]
FULL = {key: [*EVERY, dict.fromkeys(KEYS, EVERY)] for key in KEYS}

plain = st.sampled_from([*TEXTS, *DATES, *NUMBERS])
bounds = st.sampled_from(["gt", "gte", "lt", "lte"])
tests = st.one_of(
    plain,
    st.builds(lambda value: {"eq": value}, plain),
    st.builds(lambda values: {"in": values}, st.lists(plain, min_size=1, max_size=4)),
    st.builds(lambda wanted: {"exists": wanted}, st.booleans()),
    st.builds(lambda text: {"prefix": text}, st.sampled_from([t for t in TEXTS if 0 < len(t) < 9])),
    st.dictionaries(bounds, st.sampled_from([0, 0.5, 1, -5]), min_size=1),
    st.dictionaries(bounds, st.sampled_from([*DATES, "2024-03-01"]), min_size=1),
)
conditions = st.dictionaries(st.sampled_from(list(FIELDS)), tests, max_size=2)
filters = st.recursive(
    conditions,
    lambda inner: st.one_of(
        st.builds(lambda parts: {"all": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: {"any": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part, more: {"not": part, **more}, inner, conditions),
    ),
    max_leaves=5,
)


def build(vectors: Vectors, metadata: list[Any], factory: str = "Flat") -> ImageIndex:
    ids = [str(number) for number in range(len(vectors))]
    return ImageIndex.build(vectors, ids, metadata, FINGERPRINT, IndexOptions(factory))


def is_true(wanted: dict[str, Any], record: dict[str, Any]) -> bool:
    """The language again, record by record."""
    for key, part in wanted.items():
        if key == "all":
            true = all(is_true(one, record) for one in part)
        elif key == "any":
            true = any(is_true(one, record) for one in part)
        elif key == "not":
            true = not is_true(part, record)
        else:
            true = has(values_at(record, FIELDS[key]), part)
        if not true:
            return False
    return True


def values_at(value: Any, path: tuple[str, ...]) -> list[Any]:
    if isinstance(value, list):
        return [found for item in value for found in values_at(item, path)]
    if path:
        return values_at(value.get(path[0]), path[1:]) if isinstance(value, dict) else []
    return [] if value is None else [value]


def has(values: list[Any], test: Any) -> bool:
    test = test if isinstance(test, dict) else {"eq": test}
    ranges = {name: bound for name, bound in test.items() if name in ("gt", "gte", "lt", "lte")}
    for name, operand in test.items():
        if name in ("eq", "in"):
            choices = operand if name == "in" else [operand]
            true = any(same(value, choice) for value in values for choice in choices)
        elif name == "exists":
            true = bool(values) is operand
        elif name == "prefix":
            true = any(isinstance(value, str) and value.startswith(operand) for value in values)
        else:
            true = any(within(value, ranges) for value in values)
        if not true:
            return False
    return True


def same(value: Any, choice: Any) -> bool:
    return isinstance(value, bool) is isinstance(choice, bool) and bool(value == choice)


def within(value: Any, ranges: dict[str, Any]) -> bool:
    left: Any
    right: Any
    for name, bound in ranges.items():
        if isinstance(bound, str):
            if not isinstance(value, str) or value not in DATES:
                return False
            # A date without a time is the whole day; ends of days are found by comparing days.
            if len(bound) == 10 and name in ("gt", "lte"):
                left, right = moment(value).date(), moment(bound).date()
            else:
                left, right = moment(value), moment(bound)
        elif isinstance(value, bool) or not isinstance(value, int | float):
            return False
        else:
            left, right = value, bound
        true = {"gt": left > right, "gte": left >= right, "lt": left < right, "lte": left <= right}
        if not true[name]:
            return False
    return True


def moment(text: str) -> datetime:
    read = datetime.fromisoformat(text)
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)


@settings(deadline=None, max_examples=300)
@given(st.lists(records, max_size=6), filters)
def test_filters_agree_with_plain_python(metadata: list[Any], wanted: dict[str, Any]) -> None:
    metadata = [*metadata, FULL]
    index = build(unit_vectors(len(metadata)), metadata)
    found = index.select(parse_filter(wanted)).positions.tolist()
    assert found == [place for place, record in enumerate(metadata) if is_true(wanted, record)]


FACTORIES = ["Flat", "HNSW16", "IVF16,Flat", "SQ8", "IVF16,SQ8", "IVF16,SQ8,RFlat", "PCA8,Flat"]


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("few", [0, 20_000])
def test_all_k_pictures_come_back_if_there_are_k(
    factory: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, queries = unit_vectors(1500), unit_vectors(4, 7)
    metadata = [{"number": number} for number in range(1500)]
    index = build(vectors, metadata, factory)
    monkeypatch.setattr(image_index, "EXACT_UP_TO", 0)
    monkeypatch.setattr(faiss_index, "_FEW", few)
    for low, high, k in ((100, 105, 10), (0, 700, 300), (3, 1500, 1497), (7, 7, 5)):
        chosen = index.select(parse_filter({"number": {"gte": low, "lt": high}}))
        found = index.score(queries, k, [chosen, None, chosen, chosen])
        for query, scored in zip(queries[[0, 2, 3]], [found[0], *found[2:]], strict=True):
            assert len(scored.positions) == min(k, high - low)
            assert set(scored.positions.tolist()) <= set(range(low, high))
            if factory in ("Flat", "HNSW16") and (few or factory == "Flat"):
                expected = np.sort(vectors[low:high] @ query)[::-1][:k]
                np.testing.assert_allclose(np.sort(scored.cosines)[::-1], expected, atol=1e-5)


def test_searches_with_and_without_filters_share_a_batch() -> None:
    vectors, queries = unit_vectors(50), unit_vectors(3, 7)
    index = build(vectors, [{"odd": bool(number % 2)} for number in range(50)])
    odd = index.select(parse_filter({"odd": True}))
    first, second, third = index.score(queries, chosen=[odd, None, odd])
    np.testing.assert_array_equal(second.positions, np.arange(50))
    for query, scored in ((queries[0], first), (queries[2], third)):
        np.testing.assert_array_equal(scored.positions, np.arange(1, 50, 2))
        np.testing.assert_allclose(scored.cosines, vectors[1::2] @ query, atol=1e-6)
    assert 3 in odd
    assert 4 not in odd


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ([], r"filter: must be an object, not a list\."),
        ({"yaer": 2020}, r"filter\.yaer: no picture has the field 'yaer'; did you mean 'year'\?"),
        ({"any": [{"exif.izo": 1}]}, r"any\[0\]\.exif\.izo: .* did you mean 'exif\.iso'\?"),
        ({"zzzzzz": 1}, r"no picture has the field 'zzzzzz'; there are 'exif', 'exif\.iso', 'name"),
        ({"year": {"above": 3}}, r"filter\.year\.above: is not an operator; the operators are eq"),
        ({"exif": {"iso": 3}}, r"a nested field is written 'exif\.iso'"),
        ({"year": "2020"}, r"filter\.year: this field has no text; it holds numbers\."),
        ({"name": {"gte": "2020-01-01"}}, r"filter\.name: this field has no date; it holds texts"),
        ({"year": {"gte": "soon"}}, r"year\.gte: 'soon' is neither a number nor a date such as"),
        ({"year": {"gte": 1, "lt": "2024-01-01"}}, r"both bounds must be numbers, or both dates"),
        ({"year": None}, r'must be a text, a number .* not null; \{"exists": false\}'),
        ({"year": {"in": []}}, r"filter\.year\.in: must be a list of 1 to 1,000 values"),
        ({"year": {"exists": 1}}, r"must be true or false, not a number"),
        ({"name": {"prefix": ""}}, r"must be a text of 1 to 256 characters"),
        ({"year": {}}, r"filter\.year: needs a value, or one of eq, in"),
        ({"all": {"year": 1}}, r"filter\.all: must be a list of filters, not an object"),
        ({"": 1}, r"a field has 1 to 1,000 characters"),
        ({"year": float("nan")}, r"must be a finite number"),
        ({"year": 10**400}, r"must be a finite number"),
        ({"year": {"lt": -(10**400)}}, r"must be a finite number"),
        ({"all": [{"year": 1}] * 101}, r"at most 200 conditions and objects"),
        ({"any": [{}] * 300}, r"at most 200 conditions and objects"),
        ({"year": {"in": [*range(600)]}, "exif.iso": {"in": [*range(600)]}}, r"1,000 values in"),
    ],
)
def test_a_bad_filter_is_one_sentence(wanted: Any, sentence: str) -> None:
    index = build(unit_vectors(1), [{"year": 2020, "name": "cat", "exif": {"iso": 100}}])
    with pytest.raises(FilterError, match=sentence):
        index.select(parse_filter(wanted))


def test_records_are_kept_as_an_answer_can_carry_them() -> None:
    deep: Any = {}
    for _ in range(300):
        deep = {"a": deep}
    odd = {"half": "cut \ud83d", "\ud83d": 1, "n": 10**400, "deep": deep, "inf": float("inf")}
    index = build(unit_vectors(1), [odd])
    (item,) = index.items.at([0])
    assert item.record["half"] == "cut ?"
    assert item.record["?"] == 1
    assert item.record["n"] is item.record["inf"] is None
    assert len(SearchHit(
        id="x", rank=1, score=1, cosine=1, url=None, metadata=item.record, found_by=[]
    ).model_dump_json()) < 1000  # fmt: skip


def test_depth_is_limited_also_in_json() -> None:
    deep: Any = {"year": 1}
    for _ in range(8):
        deep = {"not": deep}
    with pytest.raises(FilterError, match="more than 8 deep"):
        parse_filter(deep)
    with pytest.raises(FilterError, match="not JSON"):
        parse_filter_text('{"not":' * 100_000)


def test_fields_named_like_groups_are_escaped() -> None:
    index = build(unit_vectors(2), [{"any": 1, "a.b": 2}, {"any": 2}])
    assert index.select(parse_filter({"\\any": 1})).positions.tolist() == [0]
    assert index.select(parse_filter({"a\\.b": {"exists": True}})).positions.tolist() == [0]


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.booleans(), min_size=1, max_size=60),
    st.integers(1, 70),
    st.sampled_from(["Flat", "HNSW8"]),
    st.booleans(),
)
def test_filtered_searches_agree_with_brute_force(
    kept: list[bool], k: int, factory: str, large: bool
) -> None:
    vectors, queries = unit_vectors(len(kept), 1), unit_vectors(2, 2)
    index = build(vectors, [{"kept": one} for one in kept], factory)
    chosen = index.select(parse_filter({"kept": True}))
    places = np.flatnonzero(kept)
    with pytest.MonkeyPatch.context() as patched:
        if large:
            patched.setattr(image_index, "EXACT_UP_TO", 0)
        found = index.score(queries, k, [chosen, chosen])
    for query, scored in zip(queries, found, strict=True):
        expected = np.sort(vectors[places] @ query)[::-1]
        assert set(scored.positions.tolist()) <= set(places.tolist())
        best = [hit.score for hit in scored.best(k)]
        np.testing.assert_allclose(best, expected[:k], atol=1e-5)
