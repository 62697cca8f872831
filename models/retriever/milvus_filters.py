"""Filters as Milvus expressions, with the results that a folder gives.

Milvus compares what is in a JSON field, but neither dates nor the items of lists as our filters do,
and mixes up whole and broken numbers. So a picture's values are written into the field ``values``
in a form of our own: under one key for each field and kind, a list of texts that sort as the values
do. All that Milvus has to do is to compare texts of hexadecimal digits.
"""

import hashlib
import math
import struct
from collections.abc import Mapping, Sequence

from models.retriever.fields import Kind, as_stored, values_of
from models.retriever.filters import (
    Between,
    Condition,
    Exists,
    Filter,
    FilterError,
    Group,
    OneOf,
    Prefix,
    kind_of,
)
from models.retriever.selection import require_kind, unknown_field
from models.retriever.symbols import LONGEST
from models.retriever.types import Metadata

Fields = Mapping[str, Mapping[Kind, int]]  # for each field and kind, the most values in a picture

EVERYTHING = "number >= 0"
_NOTHING = "number < 0"
_MOST_COMPARED = 256  # values of a picture's field that a range or a prefix looks at
_TEXTS = "words"  # key of the hashes of all texts, whatever their case
_SYMBOLS = "signs"  # key of the short texts that may be an emoji


def values_field(record: Metadata) -> dict[str, list[str]]:
    """What Milvus compares of a record."""
    found: dict[str, dict[str, None]] = {}  # each value once, in order
    for field, kind, value in values_of(record):
        found.setdefault(_key(field, kind), {})[_encoded(kind, value)] = None
        if kind == "text":
            text = str(value)
            found.setdefault(_TEXTS, {})[_any_case(text)] = None
            if (symbol := _symbol(text)) is not None:
                found.setdefault(_SYMBOLS, {})[symbol] = None
    return {key: list(values) for key, values in found.items()}


def count_fields(fields: dict[str, dict[Kind, int]], record: Metadata) -> None:
    """Adds what a record has to the fields of those before it."""
    counts: dict[tuple[str, Kind], int] = {}
    for field, kind, _ in values_of(record):
        counts[field, kind] = counts.get((field, kind), 0) + 1
    for (field, kind), count in counts.items():
        kinds = fields.setdefault(field, {})
        kinds[kind] = max(kinds.get(kind, 0), count)


def expression(chosen: Filter, fields: Fields) -> str:
    """The expression that is true of the same pictures.

    Raises:
        FilterError: a field that no picture has, one without values of the kind compared with, or
            one with too many values for a range or a prefix.
    """
    return _Writer(fields).group(chosen.root, negated=False)


def with_text(text: str) -> str:
    """True of pictures with a text that differs from this one in its case at most."""
    return _contains(f'values["{_TEXTS}"]', [_any_case(text)])


def with_symbol(symbol: str) -> str:
    """True of pictures with a short text that is this symbol."""
    return _contains(f'values["{_SYMBOLS}"]', [symbol.encode().hex()])


class _Writer:
    """Writes expressions over the fields of one collection."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields

    def group(self, group: Group, negated: bool) -> str:
        negated = negated or group.name == "not"
        parts = [
            self.group(part, negated) if isinstance(part, Group) else self.condition(part, negated)
            for part in group.parts
        ]
        if group.name == "any":
            return _joined(" or ", parts, _NOTHING)
        together = _joined(" and ", parts, EVERYTHING)
        return f"(not {together})" if group.name == "not" else together

    def condition(self, condition: Condition, negated: bool) -> str:
        """True of the pictures of which a condition is.

        Args:
            negated: whether it is inside of a `not`. To some versions of Milvus a comparison with
                what is not there is neither true nor false, and so is its contrary.
        """
        kinds = self._fields.get(condition.field)
        if not kinds:
            raise FilterError(unknown_field(condition, sorted(self._fields)))
        test = condition.test
        if isinstance(test, Exists):
            some = [_exists(_path(condition.field, kind)) for kind in sorted(kinds)]
            together = _joined(" or ", some, _NOTHING)
            return together if test.wanted else f"(not {together})"
        if isinstance(test, OneOf):
            wanted: dict[Kind, list[str]] = {}
            for value in test.values:
                kind = kind_of(value)
                require_kind(condition, kind, set(kinds))
                stored = as_stored(value) if isinstance(value, str) else value
                wanted.setdefault(kind, []).append(_encoded(kind, stored))
            parts = [
                _contains(_path(condition.field, kind), ones, negated)
                for kind, ones in wanted.items()
            ]
            return _joined(" or ", parts, _NOTHING)
        kind = test.kind if isinstance(test, Between) else "text"
        require_kind(condition, kind, set(kinds))
        places = _places(condition, kind, kinds[kind])
        tests = [_compared(place, test, negated) for place in places]
        return _joined(" or ", tests, _NOTHING)


def _places(condition: Condition, kind: Kind, most: int) -> list[str]:
    """Where a value may be. Milvus cannot ask for any of a list: each place is named."""
    if most > _MOST_COMPARED:
        raise FilterError(
            f"{condition.place}: a picture has {most:,} values of this field, and in Milvus ranges "
            f"and prefixes compare {_MOST_COMPARED} at most; use `eq` or `in`."
        )
    path = _path(condition.field, kind)
    return [f"{path}[{place}]" for place in range(most)]


def _compared(place: str, test: Between | Prefix, negated: bool) -> str:
    if isinstance(test, Prefix):
        parts = [f'{place} like "{_text(test.text)}%"']
    else:
        above, below = ">=" if test.low_included else ">", "<=" if test.high_included else "<"
        bounds = ((above, test.low), (below, test.high))
        parts = [f'{place} {sign} "{_number(end)}"' for sign, end in bounds if math.isfinite(end)]
    return _joined(" and ", [*([_exists(place)] if negated else []), *parts], EVERYTHING)


def _contains(path: str, values: Sequence[str], negated: bool = False) -> str:
    listed = ", ".join(f'"{value}"' for value in values)
    call = "json_contains" if len(values) == 1 else "json_contains_any"
    test = f"{call}({path}, {listed if len(values) == 1 else f'[{listed}]'})"
    return f"({_exists(path)} and {test})" if negated else test


def _exists(path: str) -> str:
    return f"(exists {path})"  # without the brackets, it would take in what follows


def _path(field: str, kind: Kind) -> str:
    return f'values["{_key(field, kind)}"]'


def _joined(word: str, parts: Sequence[str], none: str) -> str:
    """All parts in one expression. In halves: Milvus reads no more than a hundred levels."""
    if len(parts) > 2:
        middle = len(parts) // 2
        parts = [_joined(word, half, none) for half in (parts[:middle], parts[middle:])]
    if not parts:
        return f"({none})"
    return f"({word.join(parts)})" if len(parts) > 1 else parts[0]


def _key(field: str, kind: Kind) -> str:
    return f"{kind}_{hashlib.sha256(field.encode(errors='replace')).hexdigest()[:20]}"


def _encoded(kind: Kind, value: str | int | float) -> str:
    if isinstance(value, str):
        return _text(value)
    return _number(value) if kind in ("number", "date") else str(int(value))


def _text(text: str) -> str:
    """Never empty; one text begins with another if it does so here."""
    return f"x{text.encode(errors='replace').hex()}"


def _number(value: int | float) -> str:
    """20 hexadecimal digits that sort as the numbers do, whole and broken ones alike.

    The first 16 are those of the nearest float64, with its bits turned so that they sort. The rest
    is what a whole number differs from it by, which is 1,024 at most.
    """
    nearest = float(value) + 0.0  # no negative zero
    (bits,) = struct.unpack(">Q", struct.pack(">d", nearest))
    bits = bits ^ (2**64 - 1) if bits >> 63 else bits | 1 << 63
    rest = value - int(nearest) if isinstance(value, int) else 0
    return f"{bits:016x}{rest + 2048:04x}"


def _any_case(text: str) -> str:
    return hashlib.sha256(f"{len(text)} {text.casefold()}".encode(errors="replace")).hexdigest()[
        :20
    ]


def _symbol(text: str) -> str | None:
    """A short text without white space and variation selectors, if it begins like no word."""
    if len(text) > LONGEST or not text or text[0].isalpha():
        return None
    bare = "".join(text.split()).replace("\ufe0f", "").replace("\ufe0e", "")
    return bare.encode().hex() if not bare.isascii() else None
