"""Pictures whose metadata holds a very character, such as an emoji."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

LONGEST = 16  # code points of an emoji: families and flags have up to 10


def symbols_of(
    texts: Iterable[tuple[str, int]], read: Callable[[str], str | None]
) -> Mapping[str, Sequence[int]]:
    """The positions of the pictures of each symbol.

    Args:
        texts: short values of metadata, each with the position of its picture.
        read: the symbol that a text is, or None.
    """
    found: dict[str, list[int]] = defaultdict(list)
    for text, position in texts:
        if text and not text[0].isalpha() and (symbol := read(text)):
            found[symbol].append(position)
    return {symbol: sorted(set(positions)) for symbol, positions in found.items()}
