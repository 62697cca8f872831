"""Composed queries: a picture, in its own words, and what is to be different about it."""

from collections.abc import Iterable

from models.retriever.types import Metadata
from models.search.plain_english import in_latin_script, read_words

# The keys of a metadata record that hold a caption, the most telling first.
CAPTION_KEYS = ("caption", "name", "title", "description")


_WITHOUT = ("without ", "no ", "not ")  # to the encoder "without the hat" is a hat


def caption_of(metadata: Metadata) -> str | None:
    """What the record says that its picture shows, where it says so."""
    for key in CAPTION_KEYS:
        value = metadata.get(key)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return None


def repeats(caption: str, rewrite: str) -> bool:
    """Whether a rewrite says no more than the caption did: the change was left out."""
    return caption.casefold().split() == rewrite.casefold().split()


def words_beside(change: str) -> tuple[str, ...]:
    """English words of a change that may name what is wanted ("as a vampire"), at most one text.

    Where the encoder knows them too, they are searched in turns with the rewrite: a small model
    that left the change out does no harm then.
    """
    words = change.removeprefix("but ").strip()  # to the encoder "but yellow" is no colour
    if words.casefold().startswith(_WITHOUT):
        return ()
    plain = bool(words) and in_latin_script(words) and read_words(words).english
    return (words,) if plain else ()


def nearest_caption(records: Iterable[Metadata]) -> str | None:
    """For a picture without a caption that of the nearest picture that has one.

    Args:
        records: metadata of the pictures that look most like it, the nearest first.
    """
    return next((caption for record in records if (caption := caption_of(record))), None)
