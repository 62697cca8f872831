"""What a query says is not wanted: "no dog", "kein Hund", "house without a garden".

A frozen CLIP encoder does not understand a negation: to it "no dog" is a dog (Yuksekgonul et al.,
2023, and Alhamoud et al., 2025, "Vision-Language Models Do Not Understand Negation"). So the
negation is read here, by the words of the 14 languages of the demo. Only short queries are read: a
description that goes on has negations of many kinds.
"""

from typing import NamedTuple

import regex

# How each language says it. {x} is the unwanted thing, {y} what is wanted. Sources: the negative
# words of each language's grammar on Wiktionary ("no", "without" and their translation tables).
_SAYS = {
    "en": (
        "{y}[ ,]+(?:but |and )?(?:without|with no|with neither|except|no)(?: any| an?| the)? {x}",
        "(?:there (?:is|are) )?(?:no|not|without|except|anything but|everything but)"
        "(?: any| an?| the)? {x}",
    ),
    "de": ("{y}[ ,]+(?:aber |und )?(?:ohne|kein(?:e[nmrs]?)?)(?: ein(?:e[nmrs]?)?)? {x}",
           "(?:ohne|kein(?:e[nmrs]?)?|nicht)(?: ein(?:e[nmrs]?)?)? {x}"),
    "fr": ("{y}[ ,]+(?:mais )?(?:sans|pas de|pas d['’])(?: aucune?| une?)? ?{x}",
           "(?:sans|pas de|pas d['’]|pas|aucune?)(?: aucune?| une?)? ?{x}"),
    "es": ("{y}[ ,]+(?:pero )?sin(?: ning[uú]na?| una?)? {x}",
           "(?:sin|no|ning[uú]na?|ning[uú]n|nada de)(?: hay)?(?: ning[uú]na?| una?)? {x}"),
    "it": ("{y}[ ,]+(?:ma )?senza(?: alcuna?| un[ao]?)? {x}",
           "(?:senza|non|nessuna|nessuno?|niente)(?: un[ao]?)? {x}"),
    "pt": ("{y}[ ,]+(?:mas )?sem(?: nenhuma?| uma?)? {x}",
           "(?:sem|n[aã]o|nenhuma?|nada de)(?: h[aá])?(?: uma?)? {x}"),
    "ru": ("{y}[ ,]+(?:но )?без {x}", "(?:без|нет|не|никаких|никакой) {x}"),
    "tr": ("{x}(?:s[ıiuü]z| olmayan) {y}", "{x}(?: yok| olmadan| olmas[ıi]n| değil|s[ıiuü]z)"),
    "id": ("{y}[ ,]+(?:tapi )?(?:tanpa|tidak ada|bukan) {x}",
           "(?:tanpa|bukan|tidak ada|tak ada|jangan) {x}"),
    "zh": ("(?:没有|沒有|不带|不帶|无|無){x}的{y}",
           "(?:没有|沒有|不是|不要|别|除了|无|無){x}"),
    "ja": ("{x}(?:の|が)(?:ない|無い|いない){y}",
           "{x}(?:なし|無し|(?:が|の|は|で)?(?:ない|無い|いない)|じゃない|ではない|以外|抜き)"),
    "ko": ("{x}(?:이|가|은|는)? ?(?:없는|아닌) {y}",
           "{x}(?:이|가|은|는)? ?(?:없음|없이|없는|없다|아닌 것|아님|말고|제외)"),
    "ar": ("{y} (?:بدون|بلا|من دون|دون|بغير) {x}", "(?:بدون|بلا|من دون|ليس|لا يوجد|لا) {x}"),
    "fa": ("{y} (?:بدون|بی|فاقد) {x}", "(?:بدون|بی|نه|هیچ) {x}"),
}  # fmt: skip
_PATTERNS = [
    (language, regex.compile(
        says.replace("{x}", r"(?P<x>\p{L}.*?)").replace("{y}", r"(?P<y>\p{L}.*?)"),
        regex.IGNORECASE,
    ))
    for language, each in _SAYS.items()
    for says in each
]  # fmt: skip


class Negation(NamedTuple):
    """A query in two."""

    rest: str | None  # what is wanted, if the query says it
    thing: str  # what is not


def read_negation(text: str) -> Negation | None:
    """The negation in a short query. None if there is none."""
    text = text.strip(" .!?。！？؟")
    for _, pattern in _PATTERNS:
        if found := pattern.fullmatch(text):
            parts = found.groupdict()
            rest = parts.get("y")
            return Negation(rest.strip(" ,") if rest else None, parts["x"].strip())
    return None
