"""One form for what people type: the same in serving, in training rows and in evaluation.

A query is normalised once, before gate, cache, language model and encoder: compatibility forms
(Unicode NFKC: full width, half-width kana, mathematical alphabets), characters that nobody sees,
white space, texts in capitals, emoji, which are read by their Unicode CLDR names, and sentences
that are said again. The API echoes what was typed.
"""

import functools
import hashlib
import inspect
import sys
import unicodedata
from itertools import groupby

import regex

from models.search import plain_english
from models.search.long_text import without_repeats

# Joiners shape Arabic, Persian and Indic words: between two letters of such a script they stay.
_JOINING = r"[[\p{L}\p{M}]--[\p{Latin}\p{Greek}\p{Cyrillic}\p{Common}\p{Inherited}]]"
_INVISIBLE = regex.compile(
    rf"(?V1)(?<={_JOINING})[\u200c\u200d](?={_JOINING})(*SKIP)(*FAIL)"
    r"|[\p{Default_Ignorable_Code_Point}\p{Cf}--\p{Prepended_Concatenation_Mark}]"
    r"|[\p{Cc}--\s]"
)
# Full-width marks are the usual ones in Chinese and Japanese: sentences end with them.
_COMPATIBLE = regex.compile("[^！？，：；（）]+")
_BLANK = str.maketrans({"\u2800": " ", "\u3164": " ", "\uffa0": " "})  # drawn as a space
_SYMBOLS = ("So", "Sm", "Sc")
_MOST_EMOJI = 16  # that are read; a longer row of them is decoration
_TURKISH = frozenset("İĞŞ")  # capitals that hardly any other language has
_TURKISH_LOWER = str.maketrans("Iİ", "ıi")


def normalise(text: str) -> str:
    """The form that is searched; empty if nothing of the text can be seen.

    Takes microseconds for a short text. Normalising twice changes nothing more.
    """
    if text.isascii() and text.isprintable() and not text.isupper():
        return without_repeats(" ".join(text.split()))
    shouts = _shouts(_nfkc(text))
    named = _with_emoji_names(text.translate(_BLANK))
    plain = _INVISIBLE.sub("", _nfkc(named))
    plain = " ".join(plain.split())
    if not has_words(plain):
        plain = _with_symbol_names(plain)
    return without_repeats(_in_lower_case(plain) if shouts else plain)


def _nfkc(text: str) -> str:
    compatible: str = _COMPATIBLE.sub(lambda run: unicodedata.normalize("NFKC", run[0]), text)
    return compatible


def has_words(text: str) -> bool:
    """Whether there is a letter or a digit in it."""
    return any(map(str.isalnum, text))


def only_symbol(text: str) -> str | None:
    """The emoji or other symbol that a text consists of, without variation selectors.

    None if there is anything else in the text.
    """
    import emoji

    symbol = "".join(text.split()).replace("\ufe0f", "").replace("\ufe0e", "")
    if emoji.purely_emoji(text.strip()) and len(emoji.emoji_list(text)) == 1:
        return symbol
    return symbol if len(symbol) == 1 and _is_symbol(symbol) else None


def _with_emoji_names(text: str) -> str:
    """Emoji by their names; equal ones in a row once."""
    import emoji

    found = [e for e in emoji.emoji_list(text) if _is_picture(e["emoji"])]
    pieces: list[str] = []
    end, read, before = 0, 0, ""
    for each in found:
        start, character = each["match_start"], each["emoji"]
        repeated = start == end and character == before
        pieces.append(text[end:start])
        if not repeated and read < _MOST_EMOJI:
            name = emoji.demojize(character, delimiters=(" ", " "))
            pieces.append(name.replace("_", " "))
            read += 1
        end, before = each["match_end"], character
    return "".join([*pieces, text[end:]])


def _is_picture(emoji_found: str) -> bool:
    """False for signs such as © and ™, which are text unless a selector makes them pictures."""
    return len(emoji_found) > 1 or emoji_found >= "\u2190"


def _with_symbol_names(text: str) -> str:
    """Signs such as ♫ by their names; anything else stays."""
    names = [
        f" {unicodedata.name(sign, sign).lower()} " if _is_symbol(sign) else "".join(run)
        for sign, run in groupby(text)
    ]
    return " ".join("".join(names).split())


def _is_symbol(character: str) -> bool:
    return not character.isascii() and unicodedata.category(character) in _SYMBOLS


def _shouts(text: str) -> bool:
    """Whether all letters are capitals.

    Scripts without case, and Cherokee, whose usual letters count as capitals, never shout.
    """
    letters = [character for character in text if character.isalpha()]
    return bool(letters) and all(
        letter.isupper() and not "\u13a0" <= letter <= "\u13f5" for letter in letters
    )


def _in_lower_case(text: str) -> str:
    """Python knows the Greek final sigma; I is a dotless i in Turkish alone."""
    turkish = text.translate(_TURKISH_LOWER).lower()
    if not _TURKISH.isdisjoint(text) or ("I" in text and plain_english.is_turkish(turkish)):
        return turkish
    return text.lower()


@functools.cache
def version() -> str:
    """A hash of the rules above and of the Unicode and emoji data that they use."""
    import emoji

    rules = (inspect.getsource(sys.modules[__name__]), inspect.getsource(plain_english.is_turkish))
    parts = (*rules, unicodedata.unidata_version, emoji.__version__, regex.__version__)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
