"""What a picture's file says about itself: title, description and keywords, in XMP or IPTC.

Photo programs write both. XMP counts more, because IPTC's texts may be cut off.
"""

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterable

from PIL import Image, IptcImagePlugin

from models.retriever.types import Metadata

_XML = "{http://www.w3.org/XML/1998/namespace}"
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_IPTC = {"title": (2, 5), "description": (2, 120), "keywords": (2, 25)}
_IPTC_CHARSET = (1, 90)
_UTF8 = b"\x1b%G"
_NO_XML = (ET.ParseError, LookupError, ValueError)  # of an encoding that Python does not know
_LONGEST = 4_000  # characters of a text
_KEYWORDS = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
# Cameras write their own name where a description belongs.
_OF_CAMERAS = re.compile(
    r"(olympus|(konica )?minolta|samsung|kodak|digital)? ?(digital )?camera( pictures)?"
    r"|sony dsc|exif_jpeg_picture|dcim\\.*|untitled|default|\W*",
    re.IGNORECASE,
)


def described(data: bytes, formats: tuple[str, ...]) -> Metadata:
    """Title, description, keywords and caption in the content of a file; empty if it has none.

    What cannot be read is left out: a picture is not refused for it.

    Args:
        formats: of Pillow, that may be tried.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # decoding has given them
            image = Image.open(io.BytesIO(data), formats=formats)
    except Exception:  # Pillow's readers raise OSError, SyntaxError, struct.error, ...
        return {}
    try:
        found = _of_iptc(IptcImagePlugin.getiptcinfo(image) or {})
    except Exception:
        found = {}
    packet = image.info.get("xmp")
    if isinstance(packet, str):
        packet = packet.encode(errors="replace")
    return _record(found | (read_xmp(packet) if isinstance(packet, bytes) else {}))


def of_xmp(data: bytes) -> Metadata:
    """The same from an XMP packet, such as a sidecar file.

    Raises:
        ValueError: it is not XML.
    """
    try:
        ET.fromstring(data)
    except _NO_XML as error:
        raise ValueError(f"not XML ({error})") from error
    return _record(read_xmp(data))


def read_xmp(packet: bytes) -> Metadata:
    """Title, description and keywords of an XMP packet, as far as it can be read."""
    try:
        root = ET.fromstring(packet.rstrip(b"\0 \r\n\t"))
    except _NO_XML:
        return {}
    found: Metadata = {}
    for key in ("title", "description"):
        if texts := [text for text in map(_alternative, root.iter(f"{_DC}{key}")) if text]:
            found[key] = texts[0]
    keywords = [item.text for bag in root.iter(f"{_DC}subject") for item in bag.iter(f"{_RDF}li")]
    return found | ({"keywords": keywords} if keywords else {})


def _alternative(element: ET.Element) -> str | None:
    """The text in English, or else the default one, or else the first."""
    texts = {item.get(f"{_XML}lang", "").lower(): item.text for item in element.iter(f"{_RDF}li")}
    english = next((text for lang, text in texts.items() if lang.startswith("en")), None)
    return english or texts.get("x-default") or next(iter(texts.values()), element.text)


def _of_iptc(info: dict[tuple[int, int], bytes | list[bytes]]) -> Metadata:
    is_utf8 = info.get(_IPTC_CHARSET) == _UTF8
    found: Metadata = {}
    for key, tag in _IPTC.items():
        value = info.get(tag)
        if value is None:
            continue
        texts = [_decoded(one, is_utf8) for one in (value if isinstance(value, list) else [value])]
        found[key] = texts if key == "keywords" else texts[0]
    return found


def _decoded(text: bytes, is_utf8: bool) -> str:
    try:
        return text.decode()  # many programs write UTF-8 without saying so
    except UnicodeDecodeError:
        return text.decode(errors="replace") if is_utf8 else text.decode("cp1252", "replace")


def _record(found: Metadata) -> Metadata:
    record: Metadata = {}
    for key in ("title", "description"):
        if text := _clean(found.get(key)):
            record[key] = text
    if keywords := _distinct(found.get("keywords", ())):
        record["keywords"] = keywords
    if caption := record.get("description") or record.get("title"):
        record["caption"] = caption
    return record


def _clean(text: str | None) -> str:
    """On one line; empty if it says nothing."""
    clean = " ".join(_CONTROL.sub(" ", text or "").split())[:_LONGEST]
    return "" if _OF_CAMERAS.fullmatch(clean) else clean


def _distinct(keywords: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(filter(None, map(_clean, keywords))))[:_KEYWORDS]
