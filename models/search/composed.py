"""Composed queries: a picture, in words, and how the wanted picture differs from it."""

from collections.abc import Iterable

from models.retriever.types import Metadata
from models.search.plain_english import in_latin_script, read_words

# The keys of a metadata record that hold a caption, the most informative first.
CAPTION_KEYS = ("caption", "name", "title", "description")

_WITHOUT = ("without ", "no ", "not ")  # to the encoder "without the hat" is a hat


def caption_of(metadata: Metadata) -> str | None:
    """What the record says that its picture shows, if it says so."""
    for key in CAPTION_KEYS:
        value = metadata.get(key)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return None


def nearest_caption(records: Iterable[Metadata]) -> str | None:
    """The caption of the nearest picture that has one.

    Args:
        records: metadata of the pictures that look most like the reference, the nearest first.
    """
    return next((caption for record in records if (caption := caption_of(record))), None)


def repeats(caption: str, rewrite: str) -> bool:
    """Whether a rewrite says no more than the caption: the change was left out."""
    return caption.casefold().split() == rewrite.casefold().split()


def change_in_english(change: str) -> str | None:
    """English words of a change that may name what is wanted, such as "as a vampire".

    If the encoder knows them too, they are searched in turns with the rewrite, so that a small
    model that leaves the change out does no harm.
    """
    words = change.removeprefix("but ").strip()  # to the encoder "but yellow" is not a colour
    if not words or words.casefold().startswith(_WITHOUT):
        return None
    return words if in_latin_script(words) and read_words(words).english else None
