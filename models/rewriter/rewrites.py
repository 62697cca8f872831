"""Rewrites as they are searched: parsed, each once, with its probability."""

from collections.abc import Sequence
from typing import NamedTuple

from models.rewriter.answers import read_rewrite
from models.rewriter.protocol import Completion


class Rewrite(NamedTuple):
    """A usable rewrite."""

    text: str
    probability: float | None = None  # of all answers that say this; None if nobody knows


def usable_rewrites(completions: Sequence[Completion]) -> list[Rewrite]:
    """Parses answers, drops unusable ones and merges duplicates, whose probabilities add up.

    Drawn answers have no probability of their own: each counts as its share of the draws.

    Returns:
        The most probable first.
    """
    share = 1 / len(completions) if len(completions) > 1 else None
    found: dict[str, float | None] = {}
    for completion in completions:
        text = read_rewrite(completion.text)
        if text is None:
            continue
        probability = share if completion.probability is None else completion.probability
        before = found.get(text)
        found[text] = probability if before is None else before + (probability or 0.0)
    rewrites = [Rewrite(text, probability) for text, probability in found.items()]
    return sorted(rewrites, key=lambda rewrite: -(rewrite.probability or 0.0))
