"""Folders that hold no pictures of their own. Light to import: they are a setting's default."""

from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

# Thumbnails and trash of NAS systems, photo programs and desktops.
EXCLUDED = (
    "@eaDir", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot", "@__thumb",
    "$RECYCLE.BIN", "System Volume Information", ".Trash*", ".Trashes", ".thumbnails",
    "*.lrdata", "*.photoslibrary/resources", ".picasaoriginals", ".stversions", "lost+found",
    "__MACOSX",
)  # fmt: skip


def _split(given: Any) -> Any:
    """A comma-separated text as a tuple."""
    if isinstance(given, str):
        return tuple(part.strip() for part in given.split(",") if part.strip())
    return given


Patterns = Annotated[tuple[str, ...] | None, NoDecode, BeforeValidator(_split)]
