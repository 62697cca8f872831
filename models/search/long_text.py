"""Long text, cut at the ends of sentences into parts that a model can read."""

import re
from collections.abc import Callable
from typing import Protocol

from models.retriever.types import TextLength

# A sentence ends with its mark and any closing quotes or brackets. Chinese and Japanese put no
# space after it; elsewhere a mark without a space after it (3.5, example.com) ends nothing.
_SENTENCE = re.compile(r".+?(?:[.!?…؟।]+[\"'”»)\]]*(?=\s|$)|[。！？]+[」』”]*|\n|$)", re.DOTALL)

_MOST_PARTS = 256  # 2,000 words of a script that takes nine of the encoder's tokens a word
_MARKS = 3  # start, end, and the space that some tokenizers put before the first word

Fits = Callable[[str], bool]


class Measures(Protocol):
    """An encoder, as far as plans go."""

    context_length: int
    temperature: float

    def text_length(self, text: str) -> TextLength: ...


def split_text(text: str, fits: Fits) -> list[str]:
    """Splits a text, in order, into few parts that each fit.

    Sentences that fit stay whole. A longer one is cut between words. A word that does not fit, such
    as a line of Chinese without any mark, is cut in half.
    """
    text = text.strip()
    if fits(text):
        return [text]
    parts: list[str] = []
    for sentence in sentences_of(text):
        if parts and fits(joined := f"{parts[-1]} {sentence}"):
            parts[-1] = joined
        elif fits(sentence):
            parts.append(sentence)
        else:
            parts += _pack(sentence.split(), fits)
    return parts


def without_repeats(text: str) -> str:
    """The text with each of its sentences once; case and white space do not count."""
    sentences = sentences_of(text)
    once: dict[str, str] = {}
    for sentence in sentences:
        once.setdefault(" ".join(sentence.casefold().split()), sentence)
    return text if len(once) == len(sentences) else " ".join(once.values())


def readable_parts(text: str, encoder: Measures) -> list[str]:
    """The text, or parts of it if the encoder cannot read it to its end."""
    if len(text.encode()) + _MARKS <= encoder.context_length:
        return [text]  # no need to count: a token is at least a byte
    return split_text(text, lambda part: not encoder.text_length(part).truncated)[:_MOST_PARTS]


def sentences_of(text: str) -> list[str]:
    """The sentences and lines of a text, with their marks."""
    return [part for piece in _SENTENCE.findall(text) if (part := piece.strip())]


def _pack(words: list[str], fits: Fits) -> list[str]:
    """Packs words into parts that fit, by halving."""
    if not words:
        return []
    if len(words) == 1 and not fits(words[0]):
        middle = len(words[0]) // 2
        if not middle:
            return words  # a single letter cannot be made to fit
        return [*_pack([words[0][:middle]], fits), *_pack([words[0][middle:]], fits)]
    whole = " ".join(words)
    if fits(whole):
        return [whole]
    middle = len(words) // 2
    return [*_pack(words[:middle], fits), *_pack(words[middle:], fits)]
