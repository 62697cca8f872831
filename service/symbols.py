"""Pictures whose metadata holds the very character that was typed, such as an emoji."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from models.retriever.types import Metadata
from models.search.fusion import FusedHit
from models.search.normalise import only_symbol

_LONGEST = 16  # code points of an emoji: families and flags have up to 10


def symbols_of(records: Sequence[Metadata]) -> Mapping[str, Sequence[int]]:
    """The positions of the pictures of each symbol; about a second for a million records."""
    found: dict[str, list[int]] = defaultdict(list)
    for position, record in enumerate(records):
        for value in _short_texts(record):
            if symbol := only_symbol(value):
                found[symbol].append(position)
    return found


def with_first(hits: Sequence[FusedHit], positions: Sequence[int], k: int) -> list[FusedHit]:
    """The best ``k`` hits, with those at these positions before all others.

    Args:
        hits: all that was found. A picture that was not found has the score 0.
    """
    found = {hit.position: hit for hit in hits}
    first = [found.get(place) or FusedHit(place, 0.0, 0.0, (0,)) for place in positions]
    return [*first, *(hit for hit in hits if hit.position not in positions)][:k]


def _short_texts(record: Metadata) -> Iterator[str]:
    for value in record.values():
        texts: Sequence[Any] = value if isinstance(value, list) else [value]
        for text in texts:
            if isinstance(text, str) and 0 < len(text) <= _LONGEST and not text[0].isalpha():
                yield text
