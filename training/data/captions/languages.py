"""Languages: their English names, and whether a text is in one of them."""

from collections.abc import Sequence
from functools import cache

import langcodes
import pycountry
import regex
import wordfreq
from wordfreq.tokens import simple_tokenize

# ISO 15924 codes that stand for several scripts of Unicode.
_SCRIPTS = {
    "Hans": ("Han",),
    "Hant": ("Han",),
    "Jpan": ("Han", "Hiragana", "Katakana"),
    "Kore": ("Hangul", "Han"),
}
_KANA = regex.compile(r"[\p{Hiragana}\p{Katakana}]")
_LETTERS = regex.compile(r"\p{Alphabetic}")
# Of the letters at least; a brand may be in another script, and takes more letters than theirs.
_OWN_SCRIPT, _OWN_DENSE_SCRIPT = 0.5, 0.25
# wordfreq cuts texts of these into words with packages that are not installed.
_UNCUT = frozenset({"zh", "ja", "ko"})
# On the Zipf scale, together for all words: a text is refused if the difference is larger. A word
# as common as _COMMON belongs to a language even if another has it more often: "hat" is English
# too. So 2 to 4 % of the demo's names in seven languages of Latin script are refused, and 3 to 9 %
# of its English names pass for one of these languages; most of them are words of both.
_CLEARLY, _COMMON = 0.6, 5.0


@cache
def name_of(code: str) -> str | None:
    """The English name of a language by its ISO 639-1 code, such as "German"; None if unknown."""
    found = pycountry.languages.get(alpha_2=code) if len(code) == 2 else None
    # "Modern Greek (1453-)", "Swahili (macrolanguage)"
    return found.name.split(" (")[0].removeprefix("Modern ") if found else None


@cache
def script_of(code: str) -> str:
    """The ISO 15924 code of the script that a language is mostly written in."""
    return langcodes.Language.get(code).maximize().script or "Latn"


def is_in(text: str, code: str, others: Sequence[str] = ()) -> bool:
    """Whether a text may be in a language: by its letters, and by how common its words are.

    Short texts defeat language detectors: "Hotel" is German too. So a text is refused only if its
    words are four times as frequent in English, or in one of the others.

    Args:
        others: languages that it might be in instead, by their codes.
    """
    if not _in_script(text, code):
        return False
    rivals = {"en", *others} - {code}
    known = wordfreq.available_languages("best")
    if code not in known or code in _UNCUT:
        return True
    own = _frequency(text, code)
    near = (rival for rival in rivals & known.keys() if script_of(rival) == script_of(code))
    return all(_frequency(text, rival) - own <= _CLEARLY for rival in near)


def _in_script(text: str, code: str) -> bool:
    script = script_of(code)
    letters = _LETTERS.findall(text)
    own = _letters_of(script).findall(text)
    share = _OWN_DENSE_SCRIPT if script in _SCRIPTS else _OWN_SCRIPT
    if not letters or len(own) < share * len(letters):
        return False
    # Japanese may do without kana; Chinese never has any.
    return not (script in ("Hans", "Hant") and _KANA.search(text))


@cache
def _letters_of(script: str) -> regex.Pattern[str]:
    names = "".join(rf"\p{{Script={name}}}" for name in _SCRIPTS.get(script, (script,)))
    return regex.compile(rf"[{names}]")


def _frequency(text: str, code: str) -> float:
    """Sum over the words of their Zipf frequency; 1 for a word that is in no list."""
    found = (wordfreq.zipf_frequency(word, code) for word in _words(text))
    return sum(min(max(1.0, frequency), _COMMON) for frequency in found)


def _words(text: str) -> list[str]:
    words: list[str] = simple_tokenize(text)
    return [word for word in words if any(map(str.isalpha, word))]
