"""The sockets to listen on, bound before anything slow is imported or loaded."""

import errno
import socket
from typing import TYPE_CHECKING

from models.common.errors import GrapeError, InputError
from service.api_keys import require_key_beyond_loopback

if TYPE_CHECKING:
    from service.settings import Settings


def listen_and_serve(settings: "Settings") -> None:
    """Serves until interrupted. What keeps it from listening is said before the slow imports.

    Raises:
        GrapeError: see :func:`listen`.
    """
    sockets = listen(settings)
    from service.api.server import serve

    serve(settings, sockets)


def listen(settings: "Settings") -> list[socket.socket]:
    """A socket for every address of the host, bound. The server listens once it runs.

    Raises:
        InputError: no such address, or other machines could reach it and no key is set.
        GrapeError: the port is taken, or may not be used.
    """
    host, port = settings.host, settings.port
    require_key_beyond_loopback(settings.published_on or host, settings.api_keys)
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise InputError(f"--host: {host} is not an address of this machine.") from error
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    if not port:  # each address would get a port of its own
        addresses = addresses[:1]
    sockets: list[socket.socket] = []
    try:
        for family, address in addresses:
            sockets.append(_bound(family, address))
    except OSError as error:
        for opened in sockets:
            opened.close()
        raise _failure(error, host, port) from error
    return sockets


def _bound(family: int, address: object) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # 0.0.0.0 may be listened on beside ::
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind(address)  # type: ignore[arg-type]
        opened.setblocking(False)
    except OSError:
        opened.close()
        raise
    return opened


def _failure(error: OSError, host: str, port: int) -> GrapeError:
    if error.errno == errno.EADDRINUSE:
        return GrapeError(
            f"Port {port} of {host} is taken: end the program that listens on it, or choose "
            "another with --port."
        )
    if error.errno == errno.EACCES:
        return GrapeError(f"Port {port} needs privileges: choose one above 1023 with --port.")
    return InputError(f"--host: {host} is not an address of this machine ({error.strerror}).")
