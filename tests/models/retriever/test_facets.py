"""What an index can be filtered by."""

from typing import Any

import pytest

from models.retriever.facets import MOST_FACETS, MOST_VALUES, Facet, FacetValue, facets_of
from models.retriever.fields import join
from models.retriever.filters import parse_filter
from models.retriever.item_store import Item, ItemStore
from models.retriever.selection import select


def store(*records: dict[str, Any]) -> ItemStore:
    return ItemStore.build(Item(str(place), record) for place, record in enumerate(records))


def values(*pairs: tuple[str | int | float | bool, int]) -> tuple[FacetValue, ...]:
    return tuple(FacetValue(value, count) for value, count in pairs)


def facet(records: list[dict[str, Any]], field: str) -> Facet | None:
    return next((found for found in facets_of(store(*records)) if found.field == field), None)


def test_values_come_with_their_counts_the_most_frequent_first() -> None:
    places = ["Oslo", "Bergen", "Oslo", "Oslo", "Bergen", "Ålesund"]
    found = facet([{"place": place} for place in places], "place")
    assert found == Facet("place", "text", values(("Oslo", 3), ("Bergen", 2), ("Ålesund", 1)))


def test_lists_nested_fields_and_booleans() -> None:
    records: list[dict[str, Any]] = [
        {"tags": ["sea", "sun"], "exif": {"flash": True, "a.b": "x"}},
        {"tags": ["sea"], "exif": {"flash": False, "a.b": "x"}},
        {"tags": ["sun", "sea"], "exif": {"a.b": "y"}},
        {"exif": {"a.b": "y"}},
    ]
    assert facet(records, "tags") == Facet("tags", "text", values(("sea", 3), ("sun", 2)))
    assert facet(records, "exif.flash") == Facet(
        "exif.flash", "bool", values((False, 1), (True, 1))
    )
    assert facet(records, join("exif", "a.b")) == Facet(
        "exif.a\\.b", "text", values(("x", 2), ("y", 2))
    )


def test_few_numbers_are_values_and_many_are_a_range() -> None:
    few = [{"stars": place % 3} for place in range(9)]
    assert facet(few, "stars") == Facet("stars", "number", values((0, 3), (1, 3), (2, 3)))
    many = [{"iso": 100 + place} for place in range(40)]
    assert facet(many, "iso") == Facet("iso", "number", low=100, high=139)


def test_dates_are_a_range_of_days() -> None:
    taken = ["2024-05-31T23:59:59Z", "2021-01-02", "2022-07-01T12:00:00+02:00"]
    found = facet([{"taken": at} for at in taken], "taken")
    assert found == Facet("taken", "date", low="2021-01-02", high="2024-05-31")


@pytest.mark.parametrize(
    "records",
    [
        [{"name": f"picture {place}"} for place in range(20)],  # each its own
        [{"source": "camera"}] * 20,  # all the same
        [{"caption": f"{place % 9} " + "x" * 90} for place in range(20)],  # too long to tick
        [{"tag": f"{place % 201}"} for place in range(500)],  # too many
        [{"iso": 100}] * 20,
        [{"taken": "2024-05-31"}] * 20,
        [{"empty": None, "object": {}} for _ in range(20)],
        [],
    ],
)
def test_what_tells_nothing_apart_is_no_facet(records: list[dict[str, Any]]) -> None:
    assert facets_of(store(*records)) == []


def test_what_only_some_pictures_have_is_one() -> None:
    assert facet([{"source": "camera"}, {"source": "camera"}, {}], "source")


def test_answers_are_bounded() -> None:
    many_values = [{"tag": f"{place % 60:02}"} for place in range(120)]
    found = facet(many_values, "tag")
    assert found
    assert (len(found.values), found.more) == (MOST_VALUES, 10)
    fields = {f"field {n}": n % 2 for n in range(40)}
    many = store(fields, fields, {}, dict.fromkeys(fields, 5), dict.fromkeys(fields, 5))
    assert len(facets_of(many)) == MOST_FACETS


def test_every_value_finds_as_many_pictures_as_it_counts() -> None:
    records: list[dict[str, Any]] = [
        {"place": place, "stars": stars, "warm": stars > 1, "taken": f"202{stars}-05-31T08:00:00"}
        for place in ("Oslo", "", "北京", "\ud800")
        for stars in (0, 1, 2, 2)
    ]
    kept = store(*records)
    for found in facets_of(kept):
        for one in found.values:
            assert select(kept, parse_filter({found.field: one.value})).count == one.count
        if not found.values:
            within = {found.field: {"gte": found.low, "lte": found.high}}
            assert select(kept, parse_filter(within)).count == len(records)
    assert [found.field for found in facets_of(kept)] == ["place", "stars", "taken", "warm"]
