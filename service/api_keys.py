"""API keys as settings: kept as their SHA-256 alone, and needed beyond loopback.

Keys are long random strings, so that no slower hash is needed.
"""

import hashlib
import hmac
import ipaddress
import re
from typing import Annotated

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

from models.common.errors import InputError

MIN_KEY = 16  # characters
_HASHED = re.compile(r"sha256:([0-9a-fA-F]{64})")


def key_hashes(given: object) -> object:
    """The SHA-256 of each key, of a text with commas between them or of a list.

    Raises:
        ValueError: a key that is too short to be safe, or a hash that is none.
    """
    if isinstance(given, str):
        given = given.split(",")
    if not isinstance(given, list | tuple) or not all(isinstance(key, str) for key in given):
        raise ValueError("keys are texts, apart by commas")
    return tuple(hashed(key.strip()) for key in given if key.strip())


# Told as a text by flags and variables, so it must not be read as JSON.
KeyHashes = Annotated[tuple[str, ...], NoDecode, BeforeValidator(key_hashes)]


def require_key_beyond_loopback(address: str, keys: tuple[str, ...]) -> None:
    """Refuses to serve the network without a key.

    Raises:
        InputError: ``address`` can be reached from other machines, and there is no key.
    """
    if not keys and not _is_loopback(address):
        raise InputError(
            f"{address} can be reached from other machines and there is no API key: set "
            "GRAPE_API_KEYS (`openssl rand -hex 32` makes one), or listen on 127.0.0.1."
        )


def hashed(key: str) -> str:
    if found := _HASHED.fullmatch(key):
        return found[1].lower()
    if key.startswith("sha256:"):
        raise ValueError("a hashed key is sha256: and 64 hexadecimal digits")
    if len(key) < MIN_KEY:
        raise ValueError(
            f"a key needs {MIN_KEY} characters or more; `openssl rand -hex 32` makes one"
        )
    return hashlib.sha256(key.encode()).hexdigest()


def position_in(known: tuple[str, ...], shown: str) -> int | None:
    """Which it is; all are compared, so that the time does not tell."""
    found = None
    for position, one in enumerate(known):
        if hmac.compare_digest(one.encode(), shown.encode("utf-8", "surrogateescape")):
            found = position
    return found


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return address == "localhost"
