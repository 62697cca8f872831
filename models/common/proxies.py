"""Which servers are asked directly, whatever http_proxy and ALL_PROXY say."""

import contextlib
import ipaddress
import os
from collections.abc import Iterator

import httpx

from models.common.errors import InputError

_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")


class UnusableProxy(InputError):
    """The environment names a proxy that cannot be used."""


def is_on_this_machine(url: str | httpx.URL) -> bool:
    """Whether the URL names this machine, which no proxy can reach for it."""
    host = httpx.URL(url).host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified  # 0.0.0.0 reaches this machine too


@contextlib.contextmanager
def unusable_proxy_told() -> Iterator[None]:
    """Turns what httpx raises about the environment's proxies into one sentence.

    Raises:
        UnusableProxy: names the variables but not their values, which may hold a password.
    """
    try:
        yield
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        named = sorted(name for name in os.environ if name.lower() in _VARIABLES)
        what = str(error).split(". ")[0].rstrip(".")
        raise UnusableProxy(
            f"The proxy in {' or '.join(named) or 'the environment'} cannot be used ({what}): "
            "unset the variable, or name the server in NO_PROXY."
        ) from error
