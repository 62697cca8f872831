"""Pictures whose metadata holds the very character that was typed, such as an emoji."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from models.search.fusion import FusedHit
from models.search.normalise import only_symbol

LONGEST = 16  # code points of an emoji: families and flags have up to 10


def symbols_of(texts: Iterable[tuple[str, int]]) -> Mapping[str, Sequence[int]]:
    """The positions of the pictures of each symbol.

    Args:
        texts: short values of metadata, each with the position of its picture.
    """
    found: dict[str, list[int]] = defaultdict(list)
    for text, position in texts:
        if text and not text[0].isalpha() and (symbol := only_symbol(text)):
            found[symbol].append(position)
    return {symbol: sorted(set(positions)) for symbol, positions in found.items()}


def with_first(hits: Sequence[FusedHit], positions: Sequence[int], k: int) -> list[FusedHit]:
    """The best ``k`` hits, with those at these positions before all others.

    Args:
        hits: all that was found. A picture that was not found has the score 0.
    """
    found = {hit.position: hit for hit in hits}
    first = [found.get(place) or FusedHit(place, 0.0, 0.0, (0,)) for place in positions]
    return [*first, *(hit for hit in hits if hit.position not in positions)][:k]
