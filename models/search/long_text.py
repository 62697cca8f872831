"""Text that is longer than what reads it, cut at the ends of its sentences."""

import re
from collections.abc import Callable
from typing import Protocol

from models.retriever.types import TextLength

# A sentence goes up to its mark and what closes with it. Chinese and Japanese leave no space there;
# elsewhere a mark within a word (3.5, example.com) has none behind it and ends nothing.
_SENTENCE = re.compile(r".+?(?:[.!?…؟।]+[\"'”»)\]]*(?=\s|$)|[。！？]+[」』”]*|\n|$)", re.DOTALL)

_MOST_PARTS = 256  # 2,000 words of a script that costs the encoder nine tokens a word
_MARKS = 3  # start, end, and the space that some tokenizers put before the first word

Fits = Callable[[str], bool]


class Measures(Protocol):
    """An encoder, as far as lengths go."""

    context_length: int

    def text_length(self, text: str) -> TextLength: ...


def split_text(text: str, fits: Fits) -> list[str]:
    """The fewest parts, in order, that each fit; a text that fits is its only part.

    Sentences stay whole where they fit. A longer one is cut between words, and a word that does
    not fit, such as a line of Chinese without any mark, in its middle.
    """
    text = text.strip()
    if fits(text):
        return [text]
    parts: list[str] = []
    for sentence in _sentences(text):
        if parts and fits(joined := f"{parts[-1]} {sentence}"):
            parts[-1] = joined
        elif fits(sentence):
            parts.append(sentence)
        else:
            parts += _pack(sentence.split(), fits)
    return parts


def readable_parts(text: str, encoder: Measures) -> list[str]:
    """The text, or where the encoder would stop reading it, parts that it reads to their end."""
    if len(text.encode()) + _MARKS <= encoder.context_length:
        return [text]  # nothing to count: a token is a byte at least
    return split_text(text, lambda part: not encoder.text_length(part).truncated)[:_MOST_PARTS]


def _sentences(text: str) -> list[str]:
    return [part for piece in _SENTENCE.findall(text) if (part := piece.strip())]


def _pack(words: list[str], fits: Fits) -> list[str]:
    """Words in parts that fit, each as long as halving finds."""
    if not words:
        return []
    if len(words) == 1 and not fits(words[0]):
        middle = len(words[0]) // 2
        if not middle:
            return words  # a single letter; it cannot be made to fit
        return [*_pack([words[0][:middle]], fits), *_pack([words[0][middle:]], fits)]
    whole = " ".join(words)
    if fits(whole):
        return [whole]
    middle = len(words) // 2
    return [*_pack(words[:middle], fits), *_pack(words[middle:], fits)]
