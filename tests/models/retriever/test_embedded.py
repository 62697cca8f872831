"""Title, description and keywords in the files themselves, as photo programs write them."""

import io
import struct
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin

from models.retriever.build import build_from_folder
from models.retriever.embedded import described, of_xmp
from models.retriever.picture_worker import DESCRIBED, read_all
from models.retriever.pictures import formats
from tests.support.colours import ColourEncoder

XMP = """<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:dc="http://purl.org/dc/elements/1.1/">
<rdf:Description rdf:about="">
<dc:title><rdf:Alt><rdf:li xml:lang="x-default">Leuchtturm</rdf:li>
 <rdf:li xml:lang="en-GB">Lighthouse</rdf:li></rdf:Alt></dc:title>
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">a white lighthouse
 at dusk</rdf:li></rdf:Alt></dc:description>
<dc:subject><rdf:Bag><rdf:li>sea</rdf:li><rdf:li>tower</rdf:li><rdf:li>sea</rdf:li></rdf:Bag></dc:subject>
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""
LIGHTHOUSE = {
    "title": "Lighthouse",
    "description": "a white lighthouse at dusk",
    "keywords": ["sea", "tower"],
    "caption": "a white lighthouse at dusk",
}


def picture(kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(out, kind, **options)
    return out.getvalue()


def with_xmp(kind: str, packet: str = XMP) -> bytes:
    if kind == "TIFF":
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[700] = packet.encode()
        return picture(kind, tiffinfo=tags)
    if kind != "PNG":
        return picture(kind, xmp=packet.encode())
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", packet)
    return picture(kind, pnginfo=texts)


def with_iptc(*fields: tuple[int, int, bytes]) -> bytes:
    """A JPEG with a Photoshop segment that holds these fields."""
    iptc = b"".join(struct.pack(">BBBH", 28, *tag, len(text)) + text for *tag, text in fields)
    block = b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
    segment = b"Photoshop 3.0\0" + block
    jpeg = picture("JPEG")
    return jpeg[:2] + b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


def with_tag_700(value: object) -> bytes:
    """A TIFF with numbers where XMP belongs."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags.tagtype[700] = 3
    tags[700] = value
    return picture("TIFF", tiffinfo=tags)


def read(data: bytes) -> dict[str, object]:
    return described(data, formats())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_xmp_in_every_format_that_holds_it(kind: str) -> None:
    assert read(with_xmp(kind)) == LIGHTHOUSE


def test_iptc() -> None:
    data = with_iptc(
        (2, 5, b"Harbour"), (2, 120, "le café du port".encode()), (2, 25, b"boats"),
        (2, 25, b"caf\xe9"),
    )  # fmt: skip
    assert read(data) == {
        "title": "Harbour", "description": "le café du port", "keywords": ["boats", "café"],
        "caption": "le café du port",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["OLYMPUS DIGITAL CAMERA", "SONY DSC", "SAMSUNG CAMERA PICTURES", "Digital Camera", "…"]
)
def test_what_cameras_write_is_no_description(text: str) -> None:
    assert read(with_iptc((2, 120, text.encode()))) == {}


@pytest.mark.parametrize(
    "text", ["camera on a tripod", "a digital camera shop", "Defaulting bank", "untitled goose"]
)
def test_a_description_may_speak_of_cameras(text: str) -> None:
    assert read(with_iptc((2, 120, text.encode())))["description"] == text


@pytest.mark.parametrize(
    "data",
    [
        b"", b"no picture", picture("JPEG"), with_xmp("JPEG", "<x:xmpmeta"), with_xmp("JPEG", ""),
        with_xmp("JPEG", XMP.replace("dc:title", "dc:titel").replace("Lighthouse", "\0")),
        with_iptc((2, 120, b"\0\x01 \n")), with_iptc((2, 120, b""))[:60],
        with_xmp("JPEG", '<?xml version="1.0" encoding="no-such"?><x/>'),
        with_xmp("JPEG", '<?xml version="1.0" encoding="shift_jis"?><x/>'), with_tag_700((1, 2)),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_left_out(data: bytes) -> None:
    assert read(data) == {}


def test_an_entity_is_not_expanded_without_end() -> None:
    entities = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9))
    bomb = f'<!DOCTYPE x [<!ENTITY e0 "boom">{entities}]><x>&e9;</x>'
    for wrong in (bomb, '<?xml version="1.0" encoding="no-such"?><x/>', "<x"):
        with pytest.raises(ValueError, match="not XML"):
            of_xmp(wrong.encode())


def test_it_comes_with_the_pixels(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(with_xmp("JPEG"))
    for found in read_all([tmp_path / "a.jpg", with_xmp("PNG")]):
        assert isinstance(found, Image.Image)
        assert found.info[DESCRIBED] == LIGHTHOUSE


def test_an_index_holds_it(tmp_path: Path) -> None:
    (tmp_path / "a.webp").write_bytes(with_xmp("WEBP"))
    index, _ = build_from_folder(tmp_path, ColourEncoder())
    assert list(index.metadata) == [LIGHTHOUSE | {"file": "a.webp"}]
