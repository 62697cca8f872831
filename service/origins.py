"""Origins and host names as settings."""

import re
from typing import Annotated

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

_ORIGIN = re.compile(r"https?://[^/\s?#@*,]+")
_HOST_NAME = re.compile(r"[A-Za-z0-9_.-]+|[0-9A-Fa-f:]*:[0-9A-Fa-f:]*")


def _listed(given: object) -> list[str]:
    """Comma-separated text, or a list, as a list."""
    if isinstance(given, str):
        given = given.split(",")
    if not isinstance(given, list | tuple) or not all(isinstance(one, str) for one in given):
        raise ValueError("must be comma-separated text or a list of strings")
    return [one.strip() for one in given if one.strip()]


def _origins(given: object) -> tuple[str, ...]:
    origins = tuple(origin.rstrip("/").lower() for origin in _listed(given))
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(f"{origin!r} is not an origin such as https://photos.example:8443")
    return origins


def _host_names(given: object) -> tuple[str, ...]:
    names = tuple(name.strip("[]").lower() for name in _listed(given))
    for name in names:
        if not _HOST_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a host name without a port")
    return names


# Flags and variables give plain text, which must not be read as JSON.
Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)]
HostNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_host_names)]
