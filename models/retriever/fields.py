"""The single values in a metadata record: what filters compare.

A field is the path to a value, its keys joined by dots: ``{"exif": {"iso": 100}}`` has the field
``exif.iso``. A key that holds a dot or a backslash has a backslash before it. Every item of a list
is a value of the list's field, and so are the values of objects in a list. ``null`` is no value.
"""

import contextlib
import hashlib
import math
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:  # the client's commands check filters, and have no NumPy
    from models.retriever.types import Metadata

Kind = Literal["bool", "date", "number", "object", "text"]
LONGEST_TEXT = 256  # characters; of a longer text, its beginning and a hash are compared
_DEEPEST_KEPT = 64
_DEEPEST = 16  # what is nested more deeply cannot be filtered


class Value(NamedTuple):
    """One value of a record. An object has no value of its own: its fields have."""

    field: str
    kind: Kind
    value: str | int | float


def values_of(record: "Metadata") -> Iterator[Value]:
    """The values of a record. A text that is a date counts as both."""
    yield from _of_object(record, "", _DEEPEST)


def is_utf8(picture_id: str) -> bool:
    """Whether an id can be stored and requested."""
    try:
        picture_id.encode()
    except UnicodeEncodeError:
        return False
    return True


def storable(value: Any, deeper: int = _DEEPEST_KEPT) -> Any:
    """A value as JSON and SQLite can hold it and an answer can carry it.

    Halves of UTF-16 pairs become question marks. What is nested too deeply, and a number beyond
    those of float64, become null.
    """
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return value if abs(value) <= sys.float_info.max else None
    if isinstance(value, dict):
        if not deeper:
            return None
        return {storable(str(key)): storable(one, deeper - 1) for key, one in value.items()}
    if isinstance(value, list):
        return [storable(one, deeper - 1) for one in value] if deeper else None
    return value


def join(path: str, key: str) -> str:
    """The field of a key in the object at ``path``."""
    escaped = key.replace("\\", "\\\\").replace(".", "\\.")
    return f"{path}.{escaped}" if path else escaped


def as_stored(text: str) -> str:
    """A text as it is compared: limited in length, and without halves of UTF-16 pairs."""
    text = text.encode(errors="replace").decode()
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[:LONGEST_TEXT]}\0{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def as_time(text: str) -> float | None:
    """Seconds since 1970 of an ISO 8601 date or time; None if it is neither.

    Without a zone, UTC is meant. A date alone is its first moment.
    """
    if not 8 <= len(text) <= 40 or not text[:4].isdecimal():
        return None
    with contextlib.suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return None


def is_whole_day(text: str) -> bool:
    """Whether an ISO 8601 text is a date without a time."""
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _of_object(record: "Metadata", path: str, deeper: int) -> Iterator[Value]:
    for key, value in record.items():
        yield from _of_value(value, join(path, key), deeper)


def _of_value(value: Any, field: str, deeper: int) -> Iterator[Value]:
    if isinstance(value, bool):
        yield Value(field, "bool", int(value))
    elif isinstance(value, int | float):
        if math.isfinite(value):
            yield Value(field, "number", value if abs(value) < 2**63 else float(value))
    elif isinstance(value, str):
        yield Value(field, "text", as_stored(value))
        if (moment := as_time(value)) is not None:
            yield Value(field, "date", moment)
    elif deeper and isinstance(value, list):
        for item in value:
            yield from _of_value(item, field, deeper - 1)
    elif deeper and isinstance(value, dict):
        yield Value(field, "object", 0)
        yield from _of_object(value, field, deeper - 1)
