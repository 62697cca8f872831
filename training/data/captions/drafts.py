"""What is to be written: for each picture its names, descriptions, and changes of near pictures."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from models.retriever.image_index import ImageIndex
from models.rewriter.protocol import Prompt
from models.rewriter.tasks import TaskName
from training.data.captions.prompts import CHANGES, DESCRIPTIONS, change, translation
from training.data.captions.settings import CaptionSettings
from training.data.rows import same_query
from training.data.splits import split_of

_NEAREST = 24  # pictures among which a reference is looked for
_SAME = 0.999  # cosine of two copies of a picture, which no change leads from one to the other
_PART = 256  # pictures whose neighbours are looked for at once


class Pictured(NamedTuple):
    """A picture and what it shows."""

    id: str
    caption: str


class Draft(NamedTuple):
    """Queries to be written: in which language, for which picture, from which other one."""

    task: TaskName
    language: str  # ISO 639-1
    target: Pictured
    reference: Pictured | None = None

    @property
    def prompt(self) -> Prompt:
        """What the language model is asked first: a name, or a description or change in English."""
        caption = self.target.caption
        if self.task == "multilingual":
            return Prompt(*translation(caption, self.language))
        if self.reference:
            return Prompt(CHANGES, change(self.reference.caption, caption))
        return Prompt(DESCRIPTIONS, caption)

    def translated(self, english: str) -> Prompt | None:
        """What it is asked then, to say the answer in the language; None if it is in it already."""
        if self.task == "multilingual" or self.language == "en":
            return None
        return Prompt(*translation(english, self.language, long=self.task == "long"))


def drafts_of(
    settings: CaptionSettings, pictures: Sequence[Pictured], index: ImageIndex
) -> list[Draft]:
    """Everything that is to be written, one draft for each prompt.

    The engine computes the beginning of a prompt once, so that drafts of a kind are together.
    """
    drafts = []
    if settings.names:
        for language in settings.languages:
            drafts += [Draft("multilingual", language, picture) for picture in pictures]
    languages = list(dict.fromkeys(["en", *settings.languages]))
    for picture in pictures:
        for language in _in_turn(languages, settings.descriptions, picture.id):
            drafts.append(Draft("long", language, picture))
    if settings.changes:
        near = near_pictures(pictures, index, settings.changes)
        for picture in pictures:
            references = near[picture.id]
            turn = _in_turn(languages, len(references), picture.id, english_first=False)
            for reference, language in zip(references, turn, strict=True):
                drafts.append(Draft("composed", language, picture, reference))
    return drafts


def near_pictures(
    pictures: Sequence[Pictured], index: ImageIndex, count: int
) -> Mapping[str, list[Pictured]]:
    """For each picture the nearest others that have another caption and may be its reference.

    A reference of the test split is for targets of the test split alone, so that nothing of a
    held-out picture is trained on.
    """
    captions = {picture.id: picture.caption for picture in pictures}
    found: dict[str, list[Pictured]] = {}
    for start in range(0, len(pictures), _PART):
        part = pictures[start : start + _PART]
        positions = [index.position(picture.id) for picture in part]
        vectors = np.stack([index.vector(place) for place in positions if place is not None])
        for picture, hits in zip(part, index.search(vectors, _NEAREST), strict=True):
            near = (index.ids[hit.position] for hit in hits if hit.score < _SAME)
            usable = (
                Pictured(name, captions[name])
                for name in near
                if name in captions
                and same_query(captions[name]) != same_query(picture.caption)
                and (split_of(picture.id) == "test" or split_of(name) != "test")
            )
            found[picture.id] = list(islice(usable, count))
    return found


def _in_turn(
    languages: Sequence[str], count: int, picture: str, *, english_first: bool = True
) -> Iterator[str]:
    """Languages for the texts of a picture; each picture begins at another place of the list."""
    first = int.from_bytes(hashlib.sha256(picture.encode()).digest()[:4])
    if english_first and count:
        yield "en"
        languages, count = [code for code in languages if code != "en"] or ["en"], count - 1
    for number in range(count):
        yield languages[(first + number) % len(languages)]
