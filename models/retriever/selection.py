"""The pictures of an index that a filter leaves."""

import difflib
from functools import cached_property, reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from models.retriever.fields import LONGEST_TEXT, as_stored
from models.retriever.filters import (
    Between,
    Condition,
    Exists,
    Filter,
    FilterError,
    Group,
    OneOf,
    kind_of,
)
from models.retriever.item_store import ItemStore

Mask = npt.NDArray[np.bool_]

_FIELDS_COMPARED = 2_000
_FIELDS_NAMED = 12  # in the message about an unknown one


class Selection:
    """Some of the pictures of one index.

    Args:
        mask: bool ``[count of the index]``.
    """

    def __init__(self, mask: Mask) -> None:
        self._bits = np.packbits(mask, bitorder="little")  # an eighth of the mask, to be kept
        self._total = len(mask)
        self.count = int(np.count_nonzero(mask))

    @property
    def positions(self) -> npt.NDArray[np.int64]:
        """Positions in the index, ascending."""
        return np.flatnonzero(np.unpackbits(self._bits, count=self._total, bitorder="little"))

    @cached_property
    def selector(self) -> Any:
        """What tells FAISS about them."""
        import faiss  # heavy, and the service imports this file before its pages are served

        bitmap: Any = faiss.IDSelectorBitmap  # its stub is that of C++
        return bitmap(self._bits)

    def __contains__(self, position: int) -> bool:
        return bool(self._bits[position >> 3] >> (position & 7) & 1)


def select(store: ItemStore, chosen: Filter) -> Selection:
    """The pictures for which a filter is true.

    Raises:
        FilterError: a field that no picture has, or one without values of the kind compared with.
    """
    return Selection(_mask(store, chosen.root))


def _mask(store: ItemStore, node: Group | Condition) -> Mask:
    if isinstance(node, Condition):
        return _condition(store, node)
    masks = (_mask(store, part) for part in node.parts)  # one after the other: each is large
    if node.name == "any":
        return reduce(np.logical_or, masks)
    together = reduce(np.logical_and, masks, np.ones(len(store), bool))
    return ~together if node.name == "not" else together


def _condition(store: ItemStore, condition: Condition) -> Mask:
    kinds = store.kinds(condition.field)
    if not kinds:
        raise FilterError(unknown_field(condition, store.fields))
    mask = np.zeros(len(store), bool)
    for sql, given in _sql(condition, kinds):
        mask[store.where(condition.field, sql, given)] = True
    wanted = not isinstance(condition.test, Exists) or condition.test.wanted
    return mask if wanted else ~mask


def _sql(condition: Condition, kinds: set[Any]) -> list[tuple[str, list[Any]]]:
    """Conditions on a row of values, any of which is enough."""
    test = condition.test
    if isinstance(test, Exists):
        return [("true", [])]
    if isinstance(test, OneOf):
        for value in test.values:
            require_kind(condition, kind_of(value), kinds)
        return [
            ("kind = ? AND value = ?", [kind_of(value), _stored(value)]) for value in test.values
        ]
    if isinstance(test, Between):
        require_kind(condition, test.kind, kinds)
        low, high = ">=" if test.low_included else ">", "<=" if test.high_included else "<"
        sql = f"kind = ? AND value {low} ? AND value {high} ?"
        return [(sql, [test.kind, test.low, test.high])]
    require_kind(condition, "text", kinds)
    prefix = test.text.encode(errors="replace").decode()
    # No text with the prefix sorts behind the prefix with the last of all characters behind it.
    last = prefix.ljust(2 * LONGEST_TEXT, "\U0010ffff")
    return [("kind = 'text' AND value >= ? AND value <= ?", [prefix, last])]


def _stored(value: Any) -> Any:
    return as_stored(value) if isinstance(value, str) else value


def require_kind(condition: Condition, kind: str, kinds: set[Any]) -> None:
    """Checks that a field has values of a kind.

    Raises:
        FilterError: it has none. The sentence says what it has.
    """
    if kind not in kinds:
        held = " and ".join(f"{name}s" for name in sorted(kinds) if name != "bool")
        held = " and ".join(filter(None, [held, "booleans" if "bool" in kinds else ""]))
        raise FilterError(f"{condition.place}: this field has no {kind}; it holds {held}.")


def unknown_field(condition: Condition, fields: list[str]) -> str:
    """What is said of a field that no picture has.

    Args:
        fields: those that there are, sorted.
    """
    problem = f"{condition.place}: no picture has the field {condition.field[:60]!r}"
    near = difflib.get_close_matches(condition.field[:100], fields[:_FIELDS_COMPARED], 1, 0.5)
    if near:
        return f"{problem}; did you mean {near[0]!r}?"
    if not fields:
        return f"{problem}; the pictures of this index have no metadata."
    shown = ", ".join(repr(field) for field in fields[:_FIELDS_NAMED])
    more = f" and {len(fields) - _FIELDS_NAMED} more" if len(fields) > _FIELDS_NAMED else ""
    return f"{problem}; there are {shown}{more}."
