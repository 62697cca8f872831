"""What a query says is not wanted: "no dog", "kein Hund", "house without a garden".

To a CLIP encoder "no dog" is a dog: it was not trained to understand a negation (Yuksekgonul et
al., 2023; Alhamoud et al., 2025, Vision-Language Models Do Not Understand Negation). So it is read
here, by the words with which the 14 languages of the demo say that something is missing, and only
where they begin the query or stand between what is wanted and what is not.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.retriever.types import Scored
from models.search.searches import Search

# A picture shows the unwanted thing if its cosine is this share of the best picture's. On the
# demo's English negations .85 left a dog in front, and .75 took a sixth of the cats' neighbours.
_SIMILAR = 0.8
# Where nothing else is wanted, nothing is lost if the neighbours go too.
_SIMILAR_ALONE = 0.7
_MOST_CHARS = 60  # a description that runs on has negations of many kinds

# How each language says it: {x} is not wanted, {y} is. A word counts only as a whole word, except
# where a language has no spaces or puts the negation at the end of the word. From the entries of
# "without", "no" and "not" in Wiktionary and their translation tables.
_EN = r"(?: an?| any| the)?"
_DE = r"(?: ein(?:e[nmrs]?)?)?"
_SAYS = {
    "en": (rf"{{y}}(?:,? without|, no|,? (?:but|and|with) no){_EN} {{x}}",
           rf"(?:no|without|not(?= an? )){_EN} {{x}}"),
    "de": (rf"{{y}},? (?:aber |und )?(?:ohne|keine?[nmrs]?){_DE} {{x}}",
           rf"(?:ohne|keine?[nmrs]?){_DE} {{x}}"),
    "fr": (r"{y},? (?:mais )?sans(?: une?| aucune?)? {x}",
           r"(?:(?:sans|aucune?|pas de) |pas d['’] ?){x}"),
    "es": (r"{y},? (?:pero )?sin(?: una?| ning[uú]na?)? {x}", r"(?:sin|ning[uú]na?|nada de) {x}"),
    "it": (r"{y},? (?:ma )?senza(?: una?)? {x}", r"(?:senza|nessun[ao]?|niente) {x}"),
    "pt": (r"{y},? (?:mas )?sem(?: uma?| nenhuma?)? {x}", r"(?:sem|nenhuma?|nada de) {x}"),
    "id": (r"{y},? (?:tapi )?tanpa {x}", r"(?:tanpa|bukan|tidak ada|tak ada) {x}"),
    "tr": (r"{x} olmayan {y}", r"{x} (?:yok|olmadan|olmasın|değil)"),
    "ru": (r"{y},? (?:но )?без {x}", r"(?:без|нет|не) {x}"),
    "ar": (r"{y} (?:بدون|بلا|من دون) {x}", r"(?:بدون|بلا|من دون|ليس|لا يوجد|لا توجد) {x}"),
    "fa": (r"{y} بدون {x}", r"بدون {x}"),
    "zh": (r"(?:没有|沒有){x}的{y}", r"(?:没有|沒有|不是|不要){x}"),
    "ja": (r"{x}(?:の|が)(?:ない|いない|無い){y}",
           r"{x}(?:なし|無し|が(?:ない|いない|無い)|(?:では|じゃ)ない|以外)"),
    "ko": (r"{x}[이가]? ?없는 {y}", r"{x} 없이", r"{x}[이가은는]? ?(?:없음|없는|아님|말고)"),
}  # fmt: skip
_PATTERNS = [
    re.compile(
        says.replace("{x}", r"(?P<x>[^\W\d_].*?)").replace("{y}", r"(?P<y>[^\W\d_].*?)"),
        re.IGNORECASE,
    )
    for ways in _SAYS.values()
    for says in ways
]


class Negation(NamedTuple):
    """A query in two."""

    thing: str  # what is not wanted
    rest: str | None  # what is, if the query says it

    @property
    def affirmed(self) -> str:
        """The query without its negation, as an encoder that does not understand it reads it."""
        return f"{self.rest} {self.thing}" if self.rest else self.thing


class Unwanted(NamedTuple):
    """What finds the pictures to put last."""

    like: tuple[Search, ...]  # the thing; the query as if it had no negation
    rest: Search | None  # what is wanted; None if the query does not say it


def read_negation(text: str) -> Negation | None:
    """The negation in a short query. None if there is none."""
    if len(text) > _MOST_CHARS:
        return None
    text = text.strip(" .!?。！？؟")
    for pattern in _PATTERNS:
        if found := pattern.fullmatch(text):
            parts = found.groupdict()
            return Negation(parts["x"].strip(" ,"), (parts.get("y") or "").strip(" ,") or None)
    return None


def demoted(like: Sequence[Scored], rest: Scored | None) -> npt.NDArray[np.int64]:
    """Positions of the pictures that resemble what is not wanted, and more than the rest.

    Args:
        like: what the searches of :attr:`Unwanted.like` reached.
        rest: what that of :attr:`Unwanted.rest` reached.
    """
    similar = _SIMILAR if rest is not None else _SIMILAR_ALONE
    found: list[npt.NDArray[np.int64]] = []
    for positions, cosines in like:
        close = cosines >= similar * max(cosines.max(initial=0.0), 0.0)
        if rest is not None and len(rest.positions):
            places = np.searchsorted(rest.positions, positions).clip(max=len(rest.positions) - 1)
            reached = rest.positions[places] == positions
            close &= ~(reached & (rest.cosines[places] > cosines))
        found.append(positions[close])
    return np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)
