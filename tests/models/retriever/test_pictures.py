"""Opening pictures of every kind, and refusing what would hurt."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.retriever.pictures import (
    MAX_BYTES,
    PictureError,
    decode_picture,
    formats,
    read_picture,
    thumbnail_webp,
)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "LA", "1"])
def test_every_format_and_mode_becomes_rgb(kind: str, mode: str) -> None:
    image = Image.new("RGB", (20, 10), (200, 30, 40)).convert(mode)
    try:
        data = encoded(image, kind)
    except (OSError, ValueError):
        pytest.skip(f"{kind} has no {mode}")
    decoded = decode_picture(data)
    assert decoded.mode == "RGB"
    assert decoded.size == (20, 10)


def test_sixteen_bits_of_grey_keep_their_brightness() -> None:
    grey = Image.fromarray(np.full((10, 20), 30_000, np.uint16))
    assert decode_picture(encoded(grey, "PNG")).getpixel((0, 0)) == (117, 117, 117)


def test_transparent_parts_become_white_and_turned_photos_upright() -> None:
    assert decode_picture(encoded(Image.new("RGBA", (4, 4)), "PNG")).getpixel((0, 0)) == (255,) * 3
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera on its side
    turned = decode_picture(encoded(Image.new("RGB", (20, 10)), "JPEG", exif=exif))
    assert turned.size == (10, 20)


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_picture(data).getpixel((0, 0)) == (255, 0, 0)


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that promises more pixels than it has bytes."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no picture",
        b"\x00" * 100,
        encoded(Image.new("RGB", (50, 50)), "JPEG")[:200],
        encoded(Image.new("RGB", (50, 50)), "PNG")[:60],
        png_of_size(50_000, 50_000),
        png_of_size(8000, 7000),
        b"<svg",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='0' height='0'/>",
        b"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 1e99 1'/>",
        b"<svg xmlns='http://www.w3.org/2000/svg' viewBox='a b c d'/>",
        b"<html><svg></html>",
    ],
)
def test_what_is_no_usable_picture_is_refused(data: bytes) -> None:
    with pytest.raises(PictureError):
        decode_picture(data)


def test_a_tiny_picture_is_fine() -> None:
    assert decode_picture(encoded(Image.new("RGB", (1, 1)), "PNG")).size == (1, 1)


def test_an_svg_cannot_read_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (10, 10), "red").save(secret)
    svg = f"""<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"
        viewBox="0 0 10 10"><image xlink:href="{secret}" width="10" height="10"/>
        <image href="file://{secret}" width="10" height="10"/>
        <rect width="10" height="5" fill="blue"/></svg>"""
    colours = decode_picture(svg.encode(), 10).getcolors() or []
    assert sorted(colours) == [(50, (0, 0, 255)), (50, (255, 255, 255))]


def test_an_svg_cannot_fill_the_memory() -> None:
    box = b'<rect width="9e5" height="9e5"/></svg>'
    huge = b'<svg xmlns="http://www.w3.org/2000/svg" width="900000" height="900000">' + box
    assert decode_picture(huge, 64).size == (64, 64)
    thin = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000000 1">' + box
    assert decode_picture(thin, 64).size == (64, 1)
    laughs = b"""<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa">
        <!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">
        <!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;"><!ENTITY e "&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;">
        <!ENTITY f "&e;&e;&e;&e;&e;&e;&e;&e;&e;&e;"><!ENTITY g "&f;&f;&f;&f;&f;&f;&f;&f;&f;&f;">]>
        <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><text>&g;</text></svg>"""
    with pytest.raises(PictureError):
        decode_picture(laughs)


def test_an_oversized_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    with open(path, "wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(PictureError, match="larger than 64 MiB"):
        read_picture(path)


def test_thumbnails_fit_and_never_grow() -> None:
    wide = Image.new("RGB", (400, 100))
    assert Image.open(io.BytesIO(thumbnail_webp(wide, 100))).size == (100, 25)
    assert Image.open(io.BytesIO(thumbnail_webp(wide, 2000))).size == (400, 100)


RECT = '<rect width="5" height="5" fill="red"/>'
XMLNS = 'xmlns="http://www.w3.org/2000/svg"'


@pytest.mark.parametrize(
    ("size", "pixels"),
    [("10mm", 37.8), ("1.5cm", 56.7), ("2in", 192), ("72pt", 96), ("3pc", 48), (" 20px ", 20)],
)
def test_sizes_of_drawings_may_have_units(size: str, pixels: float) -> None:
    """A drawing of 5 pixels takes the share of the page that its size in pixels says."""
    drawn = decode_picture(f'<svg {XMLNS} width="{size}" height="{size}">{RECT}</svg>'.encode())
    red = sum(drawn.getpixel((x, 2)) == (255, 0, 0) for x in range(512))
    assert red == pytest.approx(512 * 5 / pixels, abs=1.5)
    box = f'<svg {XMLNS} width="{size}" height="{size}" viewBox="0 0 10 5">{RECT}</svg>'
    assert decode_picture(box.encode()).size == (512, 256)


def test_a_drawing_is_known_behind_a_comment_and_with_a_prefix() -> None:
    comment = f"<?xml version='1.0'?><!-- {'x' * 10_000} -->"
    assert decode_picture(f"{comment}<svg {XMLNS}>{RECT}</svg>".encode()).size == (512, 512)
    tags = f'<n:svg xmlns:n="{XMLNS[7:-1]}"><n:rect width="9" height="9"/></n:svg>'
    assert decode_picture(tags.encode()).size == (512, 512)


@pytest.mark.parametrize(
    "inner",
    ["", '<text y="50">Hello</text>', '<rect width="9" height="9" fill="white"/>',
     '<image href="data:image/png;base64,AAAA" width="9" height="9"/>'],
)  # fmt: skip
def test_a_blank_drawing_is_refused(inner: str) -> None:
    with pytest.raises(PictureError, match="a blank drawing"):
        decode_picture(f'<svg {XMLNS} width="99" height="99">{inner}</svg>'.encode())


@pytest.mark.parametrize("exif", [b"\xff\xd8nonsense", b"Exif\0\0II*\0garbage"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_broken_exif_leaves_the_pixels(exif: bytes) -> None:
    data = encoded(Image.new("RGB", (20, 10), "red"), "PNG", exif=exif)
    assert decode_picture(data).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    "kind", ["AVIF", "TIFF", "BMP", "JPEG2000", "ICO", "PPM", "PCX", "SGI", "QOI", "DDS", "HEIF"]
)
def test_other_formats_of_pillow(kind: str, tmp_path: Path) -> None:
    assert kind in formats()
    data = encoded(Image.new("RGB", (16, 16), "red"), kind)
    red, green, blue = decode_picture(data).getpixel((8, 8))  # type: ignore[misc]
    assert red > 240 > 20 > max(green, blue)
