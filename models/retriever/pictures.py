"""Decoding untrusted images: what Pillow reads (of several frames the first), and SVG."""

import contextlib
import functools
import importlib
import importlib.util
import io
import math
import re
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from models.common.errors import InputError

MAX_PIXELS = 50_000_000  # 150 MB as RGB; anything larger counts as a decompression bomb
MAX_BYTES = 64 * 2**20
ENOUGH_PIXELS = 1024  # on the shorter side, for any encoder or language model
_MANY_PIXELS = 4_000_000  # of a picture that is far longer on one side
MAX_ASPECT = 100  # longer side by shorter; an encoder scales the shorter one to its own size

# Pillow's formats and their suffixes. Not here: what starts a program (EPS), what Pillow only
# recognises (HDF5, GRIB), and what has no mark by which it is known (TGA).
_FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), "PNG": (".png", ".apng"),
    "WEBP": (".webp",), "GIF": (".gif",), "AVIF": (".avif", ".avifs"), "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"), "JPEG2000": (".jp2", ".j2k", ".jpf", ".jpx", ".j2c"),
    "ICO": (".ico",), "PPM": (".ppm", ".pgm", ".pbm", ".pnm"), "PCX": (".pcx",),
    "SGI": (".sgi", ".rgb", ".bw"), "QOI": (".qoi",), "DDS": (".dds",), "PSD": (".psd",),
}  # fmt: skip
_HEIF = (".heic", ".heif", ".hif")  # with the extra `heic`
_MAX_SVG_BYTES = 8 * 2**20
_LENGTH = re.compile(r"\s*\+?(\d*\.?\d+(?:[eE][-+]?\d+)?)\s*(px|mm|cm|in|pt|pc|em|ex|%|)\s*")
_PIXELS = {  # of a unit, as CSS has them; a share of an unknown page is one of 300 pixels
    "": 1.0, "px": 1.0, "in": 96.0, "cm": 96 / 2.54, "mm": 96 / 25.4, "pt": 96 / 72, "pc": 16.0,
    "em": 16.0, "ex": 8.0, "%": 3.0,
}  # fmt: skip
_SVG_TAG = re.compile(rb"<(?:[\w.-]+:)?svg[\s>/]")
_SVG_NS = "http://www.w3.org/2000/svg"


class PictureError(InputError):
    """The bytes are not an image that can be decoded. The message says why, without a file name."""


class TooManyPixels(PictureError):
    """It may be an image, but decoding it would take too much memory."""


@functools.cache
def suffixes() -> frozenset[str]:
    """Suffixes, in lower case, of the files that can be decoded here."""
    rasters = {suffix for found in _FORMATS.values() for suffix in found}
    heif = _HEIF if importlib.util.find_spec("pillow_heif") else ()
    return frozenset(rasters | {".svg", *heif})


@functools.cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats, SVG not among them."""
    if not importlib.util.find_spec("pillow_heif"):
        return tuple(_FORMATS)
    importlib.import_module("pillow_heif").register_heif_opener()
    return (*_FORMATS, "HEIF")


def read_picture(path: Path, svg_pixels: int = 512) -> Image.Image:
    """Decodes an image file; see :func:`decode_picture`."""
    return decode_picture(read_file(path), svg_pixels)


def read_file(path: Path) -> bytes:
    """The content of an image file.

    Raises:
        PictureError: it is too large.
    """
    if path.stat().st_size > MAX_BYTES:
        raise PictureError(f"larger than {MAX_BYTES >> 20} MiB")
    return path.read_bytes()


def decode_picture(
    data: bytes,
    svg_pixels: int = 512,
    max_pixels: int = MAX_PIXELS,
    enough: int | None = None,
) -> Image.Image:
    """Decodes an image to RGB, upright, with transparent parts on white.

    Args:
        data: content of the file.
        svg_pixels: longer side of a rendered SVG, in pixels.
        max_pixels: the most that another format may have, at most ``MAX_PIXELS``.
        enough: scales a large one down by a whole number, to at least so many pixels on the shorter
            side unless one side is far longer. An encoder looks at a few hundred; the rest would
            only be copied about.

    Raises:
        PictureError: unknown format or broken data.
        TooManyPixels: more than ``max_pixels``.
    """
    if _looks_like_svg(data):
        drawing = _on_white(_render_svg(data, svg_pixels), enough)
        if all(low == 255 for low, _ in drawing.getextrema()):  # type: ignore[misc]
            raise PictureError("a blank drawing: text and embedded pictures are not drawn")
        return drawing
    try:
        with warnings.catch_warnings():
            # Pillow warns above half of its own limit. The size is checked below, before decoding.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=formats())
            _check_size(image, max_pixels)
            if enough:  # a large JPEG is decoded smaller
                factor = _factor(image, enough)
                image.draft(None, (image.width // factor, image.height // factor))
            image.load()
            with contextlib.suppress(Exception):  # broken EXIF says nothing about the pixels
                ImageOps.exif_transpose(image, in_place=True)
            return _on_white(image, enough)
    except PictureError:
        raise
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise TooManyPixels(f"more than {MAX_PIXELS:,} pixels") from error
    except UnidentifiedImageError as error:
        raise PictureError(
            "not a JPEG, PNG, WebP, AVIF, GIF, SVG or another picture that Pillow reads"
        ) from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, ...
        raise PictureError(f"broken picture ({error})") from error


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise TooManyPixels(f"{width} x {height} pixels are more than {max_pixels:,}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise PictureError(f"{width} x {height} pixels are more than {MAX_ASPECT} to 1")


def thumbnail_webp(image: Image.Image, size: int) -> bytes:
    """The image scaled down to fit a square of ``size`` pixels, as WebP bytes; never enlarged."""
    small = image.copy()
    small.thumbnail((size, size), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "WEBP", quality=90)
    return out.getvalue()


def _on_white(image: Image.Image, enough: int | None) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion keeps the lower 8 bits
        grey = np.asarray(image).clip(0, 65535).astype(np.uint16) >> 8
        image = Image.fromarray(grey.astype(np.uint8))
    transparent = "A" in image.getbands() or "transparency" in image.info
    mode = "RGBA" if transparent else "RGB"
    layered = image if image.mode == mode else image.convert(mode)  # it may be 200 MB
    if enough:
        layered = _shrunk(layered, enough)
    if not transparent:
        return layered
    white = Image.new("RGBA", layered.size, "white")
    return Image.alpha_composite(white, layered).convert("RGB")


def _shrunk(image: Image.Image, enough: int) -> Image.Image:
    factor = _factor(image, enough)
    return image.reduce(factor) if factor > 1 else image


def _factor(image: Image.Image, enough: int) -> int:
    """By how much a picture can be scaled down."""
    shorter = min(image.size)
    many = math.isqrt(image.width * image.height // _MANY_PIXELS)
    return max(1, shorter // enough, many)


def _looks_like_svg(data: bytes) -> bool:
    # A long comment may come first, and the tag may have a prefix.
    is_xml = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<"
    return is_xml and _SVG_TAG.search(data, 0, _MAX_SVG_BYTES) is not None


def _render_svg(data: bytes, pixels: int) -> Image.Image:
    """Renders drawing instructions only.

    resvg would open any local file that an ``<image href>`` names, and would allocate as much
    memory as the drawing's own size asks for. So embedded images are dropped and the size is set.
    """
    import resvg_py

    if len(data) > _MAX_SVG_BYTES:
        raise PictureError(f"an SVG of more than {_MAX_SVG_BYTES >> 20} MiB")
    try:
        root = ET.fromstring(data)
        for parent in root.iter():
            for child in list(parent):
                if child.tag.rsplit("}", 1)[-1] in ("image", "feImage"):
                    parent.remove(child)
        width, height = _svg_size(root)
        root.set("width", f"{width}")  # resvg refuses units
        root.set("height", f"{height}")
        scale = pixels / max(width, height)
        ET.register_namespace("", _SVG_NS)
        png = resvg_py.svg_to_bytes(
            svg_string=ET.tostring(root, encoding="unicode"),
            width=max(1, round(width * scale)),
            height=max(1, round(height * scale)),
            skip_system_fonts=True,
        )
        return Image.open(io.BytesIO(png), formats=("PNG",))
    except (PictureError, MemoryError):
        raise
    except Exception as error:  # ParseError, and resvg's ValueError for a drawing without a size
        raise PictureError(f"broken SVG ({error})") from error


def _length(text: str) -> float:
    """A length in pixels; 0 if it is none."""
    found = _LENGTH.fullmatch(text)
    return float(found[1]) * _PIXELS[found[2]] if found else 0.0


def _svg_size(root: ET.Element) -> tuple[float, float]:
    """Width and height of the drawing in its own units, from its viewBox or its attributes."""
    box = root.get("viewBox")
    if box:
        _, _, width, height = (float(part) for part in box.replace(",", " ").split())
    else:
        width, height = (_length(root.get(side) or "100%") for side in ("width", "height"))
    if not (0 < width < 1e7 and 0 < height < 1e7):
        raise PictureError("an SVG without a usable size")
    return width, height
