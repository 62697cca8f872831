"""API keys as a setting: only their SHA-256 is kept, and serving beyond loopback requires one.

Keys are long random strings, so a slower hash would add nothing.
"""

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

from models.common.errors import InputError

MIN_KEY = 16  # characters
_HASHED = re.compile(r"sha256:([0-9a-fA-F]{64})")
_NAMED = re.compile(r"([A-Za-z0-9_.-]{1,32}):(search|admin):(.*)", re.DOTALL)

Scope = Literal["search", "admin"]


class ApiKey(NamedTuple):
    """What is kept of a key."""

    name: str  # in logs and metrics
    scope: Scope  # 'admin' includes 'search'
    sha256: str  # hexadecimal


def parse_keys(given: object) -> object:
    """Keys from a comma-separated string or a list, each as ``KEY`` or ``NAME:SCOPE:KEY``.

    ``KEY`` is plain text or ``sha256:HEX``. A key without a name is called by its place in the
    list, such as ``key-1``, and has the scope `search`.

    Raises:
        ValueError: a key is too short to be safe, a hash is malformed, or a name is used twice.
    """
    if isinstance(given, str):
        given = given.split(",")
    if not isinstance(given, list | tuple) or not all(isinstance(key, str) for key in given):
        raise ValueError("keys must be comma-separated text or a list of strings")
    texts = [key.strip() for key in given if key.strip()]
    keys = tuple(_parsed(text, place) for place, text in enumerate(texts, start=1))
    if len({key.name for key in keys}) < len(keys):
        raise ValueError("two keys have the same name")
    return keys


# Flags and variables give plain text, which must not be read as JSON.
ApiKeys = Annotated[tuple[ApiKey, ...], NoDecode, BeforeValidator(parse_keys)]


def require_key_beyond_loopback(address: str, keys: Sequence[ApiKey]) -> None:
    """Refuses to serve the network without a key.

    Raises:
        InputError: other machines can reach ``address`` and no key is set.
    """
    if not keys and not is_loopback(address):
        raise InputError(
            f"Other machines can reach {address}, and no API key is set: set GRAPE_API_KEYS "
            "(`openssl rand -hex 32` makes a key) or listen on 127.0.0.1."
        )


def matching_key(keys: Sequence[ApiKey], shown: str) -> ApiKey | None:
    """The key that ``shown`` is. Compares with all of them, in constant time."""
    digest = hashlib.sha256(shown.encode("utf-8", "replace")).hexdigest()
    found = None
    for key in keys:
        if hmac.compare_digest(key.sha256, digest):
            found = key
    return found


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach the address, an IP address or a name."""
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return address.lower() == "localhost"


def _parsed(text: str, place: int) -> ApiKey:
    if named := _NAMED.fullmatch(text):
        scope: Scope = "admin" if named[2] == "admin" else "search"
        return ApiKey(named[1], scope, _hashed(named[3]))
    return ApiKey(f"key-{place}", "search", _hashed(text))


def _hashed(key: str) -> str:
    if found := _HASHED.fullmatch(key):
        return found[1].lower()
    if key.startswith("sha256:"):
        raise ValueError("a hashed key is sha256: followed by 64 hexadecimal digits")
    if len(key) < MIN_KEY:
        raise ValueError(
            f"a key needs at least {MIN_KEY} characters; `openssl rand -hex 32` makes one"
        )
    return hashlib.sha256(key.encode()).hexdigest()
