"""Whether a text is plain English, by how common its words are in each language."""

from functools import cache
from typing import NamedTuple

# Languages in Latin script to compare word frequencies with. Other scripts need no comparison.
_OTHERS = ("de", "fr", "es", "it", "pt", "tr", "id", "nl", "pl", "sv")
_LATIN_UP_TO = "\u024f"
_LATIN_ADDITIONAL = ("\u1e00", "\u1eff")  # Vietnamese

# Zipf scale: 3 is once in a million words. A word this common in English counts as English even if
# another language has it too (banana, camera, hotel).
_COMMON = 4.0
# Ten times as frequent, on the Zipf scale.
_CLEARLY = 1.0
# Words that are in no list (names, typos) count neither way.
_UNKNOWN = 1.0


class Words(NamedTuple):
    """The language of a text's words; names and typos are often neither."""

    english: bool  # as frequent in English as in any other known language
    foreign: bool  # ten times as frequent in another language as in English


def read_words(text: str) -> Words:
    """Takes microseconds a word once the lists are loaded.

    The frequencies come from the package wordfreq. Language detectors were tried: lingua took a
    fifth of our English names, which are one or two words long, for another language.
    """
    from wordfreq.tokens import tokenize

    words = [word for word in tokenize(text, "en") if any(map(str.isalpha, word))]
    if not words:
        return Words(True, False)  # only digits or signs: nothing to translate
    english = [_frequency(word, "en") for word in words]
    if min(english) >= _COMMON:
        return Words(True, False)
    elsewhere = max(sum(_frequency(word, other) for word in words) for other in _OTHERS)
    return Words(
        english=sum(english) >= elsewhere and max(english) > _UNKNOWN,
        foreign=elsewhere - sum(english) > _CLEARLY,
    )


def is_turkish(text: str) -> bool:
    """Whether the words with a dotless i are words of Turkish.

    Capitals do not tell: KAPI is "kapi" in most languages, and a door in Turkish.
    """
    words = [word for word in text.split() if "ı" in word]
    turkish = sum(_frequency(word, "tr") for word in words)
    dotted = [word.replace("ı", "i") for word in words]
    return turkish > max(
        sum(_frequency(word, language) for word in dotted) for language in ("en", *_OTHERS)
    )


def in_latin_script(text: str) -> bool:
    """Whether all letters are Latin."""
    first, last = _LATIN_ADDITIONAL
    return not any(
        character > _LATIN_UP_TO and character.isalpha() and not first <= character <= last
        for character in text
    )


@cache
def _frequencies(language: str) -> dict[str, float]:
    from wordfreq import get_frequency_dict

    return get_frequency_dict(language, "best")


def _frequency(word: str, language: str) -> float:
    """Zipf frequency: log10 of how often the word occurs in a billion words."""
    from wordfreq import freq_to_zipf

    share = _frequencies(language).get(word)
    return max(_UNKNOWN, freq_to_zipf(share)) if share else _UNKNOWN
