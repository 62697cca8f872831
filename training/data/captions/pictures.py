"""The pictures that are written about, with the captions they have, or that a model wrote."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from models.common.errors import InputError
from models.common.progress import track
from models.retriever.image_index import ImageIndex
from models.retriever.pictures import PictureError
from models.retriever.types import Metadata
from models.rewriter.answers import read_rewrite
from models.rewriter.protocol import Prompt, Sampling
from models.rewriter.tasks import MULTILINGUAL
from models.search.composed import caption_of
from training.data.captions.drafts import Pictured
from training.data.captions.kept_answers import KeptAnswers
from training.data.captions.settings import CaptionSettings

_AT_ONCE = 64  # pictures whose files are in memory


class WithCaptions(NamedTuple):
    """The pictures that have captions, in the order of the index."""

    pictures: list[Pictured]
    without: int  # pictures that have none, and got none
    seen: int  # captions that the model wrote


async def pictures_with_captions(
    settings: CaptionSettings, index: ImageIndex, answers: KeptAnswers
) -> WithCaptions:
    """All pictures with a caption, or ``limit`` of them.

    Raises:
        InputError: there is none, or the model reads no pictures.
    """
    captions = {item.id: _caption(item.record, settings.field) for item in index.items.items()}
    missing = [name for name, caption in captions.items() if caption is None]
    usable = list(captions) if settings.see else [name for name in captions if captions[name]]
    if settings.limit and settings.limit < len(usable):
        chosen = set(random.Random(settings.seed).sample(usable, settings.limit))
        usable = [name for name in usable if name in chosen]
    seen: dict[str, str] = {}
    if settings.see:
        seen = await _seen([name for name in usable if not captions[name]], index, answers)
    known = ((name, captions[name] or seen.get(name)) for name in usable)
    pictures = [Pictured(name, caption) for name, caption in known if caption]
    if not pictures:
        key = settings.field or "caption, name, title or description"
        raise InputError(
            f"No picture of the index has a {key} in its metadata: put a text file beside each "
            "picture and build the index again, or have a model look at them with --see."
        )
    return WithCaptions(pictures, len(missing) - len(seen), len(seen))


def _caption(record: Metadata, field: str | None) -> str | None:
    if field is None:
        return caption_of(record)
    value = record.get(field)
    return value.strip() or None if isinstance(value, str) else None


async def _seen(names: Sequence[str], index: ImageIndex, answers: KeptAnswers) -> dict[str, str]:
    """Captions by a model that looks at the pictures; unreadable ones have none."""
    parts = [names[start : start + _AT_ONCE] for start in range(0, len(names), _AT_ONCE)]
    found: dict[str, str] = {}
    for part in track(parts, f"Looking at pictures, {_AT_ONCE} each"):
        shown = {name: data for name in part if (data := _content(index, name))}
        prompts = [Prompt(MULTILINGUAL, "", data) for data in shown.values()]
        done = await answers.ask(prompts, Sampling(), None)
        for name, some in zip(shown, done, strict=True):
            if some and (caption := read_rewrite(some[0].text)):
                found[name] = caption
    return found


def _content(index: ImageIndex, name: str) -> bytes | None:
    position = index.position(name)
    picture = None if position is None else index.picture(position)
    try:
        return picture.read_bytes() if isinstance(picture, Path) else picture and picture.read()
    except (OSError, PictureError):
        return None
