"""The ids and the records of an index as sequences, which are read when they are asked for."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, overload

Cell = TypeVar("Cell")
Rows = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]


class Column(Sequence[Cell]):
    """A column of the items, read when it is asked for."""

    def __init__(self, rows: Rows, count: int, name: str, read: Any) -> None:
        self._rows = rows
        self._count = count
        self._name = name
        self._read = read

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> Cell: ...
    @overload
    def __getitem__(self, place: slice) -> list[Cell]: ...
    def __getitem__(self, place: int | slice) -> Cell | list[Cell]:
        if isinstance(place, slice):
            chosen = range(*place.indices(len(self)))
            if chosen.step == 1:
                return list(self._between(chosen.start, chosen.stop))
            return [self[position] for position in chosen]
        position = range(len(self))[place]
        query = f"SELECT {self._name} FROM items WHERE position = ?"
        ((cell,),) = self._rows(query, (position,))
        found: Cell = self._read(cell)
        return found

    def __iter__(self) -> Iterator[Cell]:
        return self._between(0, len(self))

    def _between(self, start: int, stop: int) -> Iterator[Cell]:
        query = f"SELECT {self._name} FROM items WHERE position >= ? AND position < ?"
        for first in range(start, stop, 1000):
            rows = self._rows(f"{query} ORDER BY position", (first, min(first + 1000, stop)))
            yield from (self._read(cell) for (cell,) in rows)
