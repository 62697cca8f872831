"""Reading the ratings that a model wrote for a group of candidates."""

from collections.abc import Mapping, Sequence

_DIGITS = frozenset("0123456789")


def parse_ratings(
    tokens: Sequence[str], likely: Sequence[Mapping[str, float]], count: int
) -> list[float | None]:
    """Reads the ratings of ``count`` candidates from what the model wrote for a group.

    A rating is the mean of the digits 0 to 9 by their probability where the model wrote one of
    them, and not that digit: it tells apart what the model rates alike. None where none is written.

    Args:
        tokens: that the model wrote.
        likely: the likeliest tokens at each place, with their probabilities.
    """
    ratings: list[float | None] = []
    for token, options in zip(tokens, likely, strict=False):
        digits = [(int(text), p) for text, p in options.items() if text.strip() in _DIGITS]
        if token.strip() in _DIGITS and (total := sum(p for _, p in digits)) > 0:
            ratings.append(sum(digit * p for digit, p in digits) / total)
    return [*ratings, *[None] * count][:count]
