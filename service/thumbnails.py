"""`grape search --images`: the pictures of the hits in a terminal that can show them."""

import io
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from models.common.errors import GrapeError, InputError
from models.common.progress import say

_ROWS = 6  # of the terminal, for each picture
_PIXELS = 256  # of the longer side, which is scaled to the rows

Read = Callable[[dict[str, Any]], bytes | None]  # the content of a hit's picture file


class Terminal(Protocol):
    """A terminal that shows pictures."""

    def show(self, data: bytes) -> None:
        """Shows a picture below what has been printed. A picture that is broken is left out."""


def terminal() -> Terminal | None:
    """The terminal, if it shows pictures; says so if it does not.

    It is asked: it answers on its standard input, which it does within a tenth of a second or
    not at all.

    Raises:
        InputError: input or output is no terminal.
        GrapeError: textual-image is not installed.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InputError(
            "--images needs a terminal, and input or output is none: leave it out. -f prints the "
            "paths of the pictures."
        )
    logging.getLogger("textual_image").setLevel(logging.ERROR)
    try:
        from textual_image import renderable
    except ModuleNotFoundError as error:
        raise GrapeError(
            f"--images needs the package {error.name}: install GRAPE with its extra 'terminal'."
        ) from error
    sized = os.get_terminal_size(sys.stdout.fileno()).columns > 0  # some tell no size
    if sized and renderable.Image in (renderable.SixelImage, renderable.TGPImage):
        return _Drawing(renderable.Image)
    say(
        "this terminal shows no pictures: it knows neither Sixel nor kitty's graphics protocol. "
        "kitty, iTerm2, WezTerm, Konsole, foot and Windows Terminal do."
    )
    return None


class _Drawing:
    def __init__(self, kind: Any) -> None:
        from rich.console import Console

        self._kind = kind
        self._console = Console(markup=False, highlight=False, emoji=False)

    def show(self, data: bytes) -> None:
        from models.retriever.pictures import PictureError, decode_picture

        try:
            picture = decode_picture(data, svg_pixels=_PIXELS)
        except PictureError as error:
            say(f"a picture that cannot be shown: {error}")
            return
        picture.thumbnail((_PIXELS, _PIXELS))
        out = io.BytesIO()
        picture.save(out, "PNG")
        self._console.print(self._kind(io.BytesIO(out.getvalue()), width="auto", height=_ROWS))


def from_server(url: str, key: str | None) -> Read:
    """Reads pictures from a server."""
    from models.client import Client, ClientError

    def read(hit: dict[str, Any]) -> bytes | None:
        try:
            with Client(url, api_key=key) as client:
                return client.picture(hit["id"], _PIXELS)
        except ClientError as error:
            say(f"{hit['id']}: {error.message}")
            return None

    return read


def from_folder(folder: str) -> Read:
    """Reads pictures from the folder of an index."""
    from models.retriever.pictures import PictureError
    from models.retriever.shard_pictures import in_shard, own_file

    def read(hit: dict[str, Any]) -> bytes | None:
        place = own_file(folder, hit["metadata"]) or in_shard(folder, hit["metadata"])
        try:
            return place.read_bytes() if isinstance(place, Path) else place and place.read()
        except (OSError, PictureError) as error:
            say(f"{hit['id']}: its picture cannot be read: {error}")
            return None

    return read
