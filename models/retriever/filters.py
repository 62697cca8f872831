"""Filters of a search: a small JSON language over the metadata. ``docs/filters.md`` has the rules.

    {"year": {"gte": 2020}, "not": {"tags": {"in": ["draft", "private"]}}}

:func:`parse_filter` checks the form; whether an index has the fields is known only when it is
searched.
"""

import json
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, cast

from models.common.errors import InputError
from models.retriever.fields import LONGEST_TEXT, Kind, as_time, is_whole_day

MAX_DEPTH = 8
MAX_PARTS = 200  # conditions, and the objects that hold them
MAX_CHOICES = 1_000  # of all `in` together
_MAX_CHARS = 1_000  # of a text or a field
_DAY_S = 86_400
_BOUNDS = ("gt", "gte", "lt", "lte")
_OPERATORS = ("eq", "in", "exists", "prefix", *_BOUNDS)

Scalar = str | int | float | bool


class FilterError(InputError):
    """A filter that cannot be used; the sentence names the place in it."""


class OneOf(NamedTuple):
    """A value of the field is one of these."""

    values: tuple[Scalar, ...]


class Between(NamedTuple):
    """A number, or the seconds since 1970 of a date, is within bounds."""

    kind: Literal["number", "date"]
    low: float
    low_included: bool
    high: float
    high_included: bool


class Exists(NamedTuple):
    """The field has a value, or has none."""

    wanted: bool


class Prefix(NamedTuple):
    """A text of the field begins like this."""

    text: str


class Condition(NamedTuple):
    """What must be true of one field."""

    field: str
    test: OneOf | Between | Exists | Prefix
    place: str  # in the filter, for messages


class Group(NamedTuple):
    """Filters of which all, any or none must be true."""

    name: Literal["all", "any", "not"]
    parts: "tuple[Group | Condition, ...]"


class Filter(NamedTuple):
    """A filter of the right form."""

    root: Group
    given: dict[str, Any]  # as it was given
    text: str  # the same for equal filters


def parse_filter(given: object) -> Filter:
    """Reads a filter from parsed JSON.

    Raises:
        FilterError: it breaks a rule of the language, or is too deep or too large.
    """
    parser = _Parser()
    root = parser.group(given, "filter", MAX_DEPTH)
    assert isinstance(given, dict)
    return Filter(root, given, json.dumps(given, sort_keys=True))


def parse_filter_text(text: str) -> Filter:
    """Reads a filter from JSON.

    Raises:
        FilterError: see :func:`parse_filter`; also if the text is not JSON.
    """
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FilterError(
            f'the filter is not JSON ({error}); write it like {{"year": {{"gte": 2020}}}}.'
        ) from error
    return parse_filter(given)


def kind_of(value: Scalar) -> Kind:
    """The kind of a value that a filter compares with."""
    if isinstance(value, bool):
        return "bool"
    return "text" if isinstance(value, str) else "number"


class _Parser:
    def __init__(self) -> None:
        self._parts = 0
        self._values = 0

    def group(self, given: object, place: str, depth: int) -> Group:
        if not isinstance(given, dict):
            raise FilterError(f"{place}: must be an object, not {_shown(given)}.")
        if not depth:
            raise FilterError(f"{place}: is nested more than {MAX_DEPTH} deep.")
        self._count(1, place)
        parts: list[Group | Condition] = []
        for key, value in given.items():
            inner = f"{place}.{_named(key)}"
            if key in ("all", "any"):
                parts.append(self._several(key, value, inner, depth - 1))
            elif key == "not":
                parts.append(Group("not", (self.group(value, inner, depth - 1),)))
            else:
                parts += self._conditions_of(key, value, inner)
        return Group("all", tuple(parts))

    def _several(self, name: str, given: object, place: str, depth: int) -> Group:
        if not isinstance(given, list) or not given:
            raise FilterError(f"{place}: must be a list of filters, not {_shown(given)}.")
        parts = (self.group(part, f"{place}[{n}]", depth) for n, part in enumerate(given))
        return Group(cast(Literal["all", "any"], name), tuple(parts))

    def _conditions_of(self, key: str, given: object, place: str) -> list[Condition]:
        field = _canonical(key, place)
        if not isinstance(given, dict):
            given = {"eq": given}
        if not given:
            raise FilterError(f"{place}: needs a value, or one of {', '.join(_OPERATORS)}.")
        found: list[Condition] = []
        for operator, operand in given.items():
            here = f"{place}.{_named(operator)}"
            if operator not in _OPERATORS:
                raise FilterError(f"{here}: is not an operator; {_operators(place, operator)}")
            if operator in _BOUNDS:
                continue  # one value must be within all of them
            test = _TESTS[operator](operand, place if operator == "eq" else here)
            found.append(Condition(field, test, place))
            self._values += len(test.values) if isinstance(test, OneOf) else 0
        if self._values > MAX_CHOICES:
            raise FilterError(f"{place}: a filter has at most {MAX_CHOICES:,} values in all.")
        bounds = {name: given[name] for name in _BOUNDS if name in given}
        if bounds:
            found.append(Condition(field, _between(bounds, place), place))
        self._count(len(found), place)
        return found

    def _count(self, parts: int, place: str) -> None:
        self._parts += parts
        if self._parts > MAX_PARTS:
            raise FilterError(f"{place}: a filter has at most {MAX_PARTS} conditions and objects.")


def _canonical(key: str, place: str) -> str:
    """A field as it is stored: a backslash only where it is needed."""
    if not key or len(key) > _MAX_CHARS:
        raise FilterError(f"{place}: a field has 1 to {_MAX_CHARS:,} characters.")
    field, characters = "", iter(key)
    for character in characters:
        if character == "\\":
            character = next(characters, "\\")
            field += f"\\{character}" if character in ".\\" else character
        else:
            field += character
    return field


def _scalar(given: object, place: str) -> Scalar:
    if isinstance(given, bool):
        return given
    if isinstance(given, int | float):
        return _number(given, place)
    if isinstance(given, str) and len(given) <= _MAX_CHARS:
        return given
    if isinstance(given, str):
        raise FilterError(f"{place}: a text has at most {_MAX_CHARS:,} characters.")
    hint = '; {"exists": false} finds what has no value' if given is None else ""
    raise FilterError(f"{place}: must be a text, a number or a boolean, not {_shown(given)}{hint}.")


def _one_of(given: object, place: str) -> OneOf:
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_CHOICES:
        raise FilterError(f"{place}: must be a list of 1 to {MAX_CHOICES:,} values.")
    values = (_scalar(value, f"{place}[{n}]") for n, value in enumerate(given))
    return OneOf(tuple({(type(value), value): value for value in values}.values()))


def _exists(given: object, place: str) -> Exists:
    if not isinstance(given, bool):
        raise FilterError(f"{place}: must be true or false, not {_shown(given)}.")
    return Exists(given)


def _prefix(given: object, place: str) -> Prefix:
    if not isinstance(given, str) or not 1 <= len(given) <= LONGEST_TEXT:
        raise FilterError(f"{place}: must be a text of 1 to {LONGEST_TEXT} characters.")
    return Prefix(given)


_TESTS: dict[str, Callable[[object, str], OneOf | Exists | Prefix]] = {
    "eq": lambda given, place: OneOf((_scalar(given, place),)),
    "in": _one_of,
    "exists": _exists,
    "prefix": _prefix,
}


def _between(bounds: dict[str, object], place: str) -> Between:
    kinds = {isinstance(value, str) for value in bounds.values()}
    if len(kinds) > 1:
        raise FilterError(f"{place}: both bounds must be numbers, or both dates.")
    low, high = (-math.inf, True), (math.inf, True)
    for name, value in bounds.items():
        bound, included = _bound(name, value, f"{place}.{name}")
        if name in ("gt", "gte"):
            low = max(low, (bound, included), key=lambda one: (one[0], not one[1]))
        else:
            high = min(high, (bound, included), key=lambda one: (one[0], one[1]))
    return Between("date" if kinds == {True} else "number", *low, *high)


def _bound(name: str, given: object, place: str) -> tuple[float, bool]:
    """A bound as a number, and whether it is included. A date without a time is the whole day."""
    included = name in ("gte", "lte")
    if isinstance(given, str):
        moment = as_time(given)
        if moment is None:
            raise FilterError(
                f"{place}: {given[:60]!r} is neither a number nor a date such as 2024-05-31 or "
                "2024-05-31T12:00:00Z."
            )
        if is_whole_day(given) and name in ("gt", "lte"):
            return moment + _DAY_S, not included
        return moment, included
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise FilterError(f"{place}: must be a number or a date, not {_shown(given)}.")
    return _number(given, place), included


def _number(given: int | float, place: str) -> int | float:
    """A number that SQLite can hold."""
    if not abs(given) <= sys.float_info.max:  # not a number, or beyond float64
        raise FilterError(f"{place}: must be a finite number of 64 bits.")
    return given if abs(given) < 2**63 else float(given)


def _named(key: str) -> str:
    """A key as a sentence can show it."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in key[:60])


def _operators(place: str, operator: str) -> str:
    operators = f"the operators are {', '.join(_OPERATORS)}"
    nested = f"{place.removeprefix('filter.')}.{_named(operator)}"
    return f"{operators}; a nested field is written {nested!r}."


def _shown(given: object) -> str:
    names: Sequence[tuple[type, str]] = (
        (dict, "an object"), (list, "a list"), (str, "a text"), (bool, "a boolean"),
    )  # fmt: skip
    if given is None:
        return "null"
    return next((name for kind, name in names if isinstance(given, kind)), "a number")
