"""What an index can be filtered by: the fields whose values several pictures share, with counts."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from models.retriever.fields import Kind
from models.retriever.item_store import ItemStore

MOST_FACETS = 24
MOST_VALUES = 50  # of a field, the most frequent first
_MOST_FIELDS = 500  # that are looked at, in alphabetical order
_MOST_DISTINCT = 200  # a field with more texts is a name or a caption
_MOST_NUMBERS = 12  # a field with more numbers is a range
_LONGEST = 80  # characters of a text that is listed

_OF_FIELD = "field = (SELECT number FROM fields WHERE name = ?1) AND kind = ?2"
# Jumps from value to value, where DISTINCT would read every picture's.
_DISTINCT = f"""
WITH RECURSIVE jump(value) AS (
    SELECT min(value) FROM item_values WHERE {_OF_FIELD}
    UNION ALL
    SELECT (SELECT min(value) FROM item_values WHERE {_OF_FIELD} AND value > jump.value)
    FROM jump WHERE jump.value IS NOT NULL LIMIT ?3
) SELECT count(value) FROM jump
"""
_COUNTS = f"SELECT value, count(*) FROM item_values WHERE {_OF_FIELD} GROUP BY 1 ORDER BY 2 DESC, 1"
_BOUNDS = f"""
SELECT (SELECT min(value) FROM item_values WHERE {_OF_FIELD}),
       (SELECT max(value) FROM item_values WHERE {_OF_FIELD})
"""


@dataclass(frozen=True)
class FacetValue:
    """A value, and how many pictures have it."""

    value: str | int | float | bool
    count: int


@dataclass(frozen=True)
class Facet:
    """A field that a filter can use: a few values, or the range of many."""

    field: str
    kind: Kind
    values: tuple[FacetValue, ...] = ()  # the most frequent first
    more: int = 0  # values that are not listed
    low: str | int | float | None = None  # of a range; of dates the days, in ISO 8601
    high: str | int | float | None = None


def facets_of(store: ItemStore) -> list[Facet]:
    """The facets of an index, by name; at most ``MOST_FACETS``.

    Texts are a facet if a value is shared by two pictures on average; names and captions are not.
    Reads every value of the fields that it returns, and a few hundred of the others.
    """
    found: list[Facet] = []
    for field in store.fields[:_MOST_FIELDS]:
        facet = _facet(store, field)
        if facet:
            found.append(facet)
        if len(found) == MOST_FACETS:
            break
    return found


def _facet(store: ItemStore, field: str) -> Facet | None:
    kinds = store.kinds(field)
    if "date" in kinds:
        return _range(store, field, "date")
    for kind in ("bool", "number", "text"):
        if kind in kinds:
            facet = _of_values(store, field, kind)
            return facet or (_range(store, field, "number") if kind == "number" else None)
    return None


def _of_values(store: ItemStore, field: str, kind: Kind) -> Facet | None:
    """A facet of single values; None if there are too many, or if they tell nothing apart."""
    most = _MOST_NUMBERS if kind == "number" else _MOST_DISTINCT
    ((distinct,),) = store.scan(_DISTINCT, (field, kind, most + 1))
    if distinct > most:
        return None
    counts = store.scan(_COUNTS, (field, kind))
    total = sum(count for _, count in counts)
    same = distinct == 1 and total == len(store)
    if same or (total < 2 * distinct and kind != "bool"):
        return None
    short = [pair for pair in counts if kind != "text" or len(pair[0]) <= _LONGEST]
    listed = tuple(FacetValue(_as(kind, value), count) for value, count in short[:MOST_VALUES])
    return Facet(field, kind, listed, distinct - len(listed)) if listed else None


def _as(kind: Kind, value: Any) -> Any:
    return bool(value) if kind == "bool" else value


def _range(store: ItemStore, field: str, kind: Kind) -> Facet | None:
    ((low, high),) = store.scan(_BOUNDS, (field, kind))
    if low == high:
        return None
    if kind == "date":
        low, high = _day(low), _day(high)
    return Facet(field, kind, low=low, high=high)


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).date().isoformat()
