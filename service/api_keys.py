"""API keys as a setting: only their SHA-256 is kept, and serving beyond loopback requires one.

Keys are long random strings, so a slower hash would add nothing.
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
    """The SHA-256 of each key, from a comma-separated string or a list.

    Raises:
        ValueError: a key is too short to be safe, or a hash is malformed.
    """
    if isinstance(given, str):
        given = given.split(",")
    if not isinstance(given, list | tuple) or not all(isinstance(key, str) for key in given):
        raise ValueError("keys must be comma-separated text or a list of strings")
    return tuple(hashed(key.strip()) for key in given if key.strip())


# Flags and variables give plain text, which must not be read as JSON.
KeyHashes = Annotated[tuple[str, ...], NoDecode, BeforeValidator(key_hashes)]


def require_key_beyond_loopback(address: str, keys: tuple[str, ...]) -> None:
    """Refuses to serve the network without a key.

    Raises:
        InputError: other machines can reach ``address`` and no key is set.
    """
    if not keys and not _is_loopback(address):
        raise InputError(
            f"Other machines can reach {address}, and no API key is set: set GRAPE_API_KEYS "
            "(`openssl rand -hex 32` makes a key) or listen on 127.0.0.1."
        )


def hashed(key: str) -> str:
    if found := _HASHED.fullmatch(key):
        return found[1].lower()
    if key.startswith("sha256:"):
        raise ValueError("a hashed key is sha256: followed by 64 hexadecimal digits")
    if len(key) < MIN_KEY:
        raise ValueError(
            f"a key needs at least {MIN_KEY} characters; `openssl rand -hex 32` makes one"
        )
    return hashlib.sha256(key.encode()).hexdigest()


def position_in(known: tuple[str, ...], shown: str) -> int | None:
    """Where ``shown`` is in ``known``. Compares with all of them, in constant time."""
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
