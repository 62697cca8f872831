"""One writer of a collection in Milvus at a time.

Milvus has no locks. A writer leaves a mark with an end in the collection's properties, and renews
it with each batch, so that one that was killed keeps the others out for two minutes at most.
"""

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from models.common.errors import InputError
from models.retriever.address import MilvusAddress
from models.retriever.milvus_connection import Connection
from models.retriever.milvus_index import MANIFEST_PROPERTY

_PROPERTY = "grape.writer"
_INTERRUPTED = "interrupted 0"  # a mark that has ended
_LEASE_S = 120.0
_SETTLES_S = 0.5  # in which the marks of two writers that begin together are both to be seen


class Writer(NamedTuple):
    """A process that alone writes a collection."""

    connection: Connection
    interrupted: bool  # whether the one before it was, so that the manifest is out of date


@contextlib.contextmanager
def writing(address: MilvusAddress) -> Iterator[Writer]:
    """Marks the collection as being written, if there is one.

    Raises:
        InputError: another process is writing the collection.
    """
    connection = Connection(address)
    token = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    try:
        interrupted = _take(connection, token)
        try:
            yield Writer(connection, interrupted)
        except BaseException:
            with contextlib.suppress(Exception):  # what went wrong before counts
                _mark(connection, _INTERRUPTED)
            raise
        _mark(connection, "")
    finally:
        connection.close()


def renew(connection: Connection) -> None:
    """Says that the writer is still alive."""
    token, _, end = _writer(connection).rpartition(" ")
    if token and float(end) - time.time() < _LEASE_S / 2:
        _mark(connection, _lease(token))


def served(connection: Connection) -> dict[str, Any] | None:
    """The collection that the address names now, as Milvus describes it; None if it names none.

    Raises:
        InputError: a collection that is none of ours has that name.
    """
    alias = connection.address.collection
    if not connection("has_collection", alias):
        return None
    told: dict[str, Any] = connection("describe_collection", alias)
    if MANIFEST_PROPERTY not in (told.get("properties") or {}):
        raise InputError(
            f"The collection {alias} in Milvus at {connection.address.uri} is no index of grape, "
            "and stays as it is: choose another name."
        )
    return told


def _take(connection: Connection, token: str) -> bool:
    """Whether the writer before this one was interrupted."""
    if served(connection) is None:
        return False
    mark = before = _writer(connection)
    if not mark or float(mark.rpartition(" ")[2]) < time.time():
        _mark(connection, _lease(token))
        time.sleep(_SETTLES_S)
        mark = _writer(connection)
    if not mark.startswith(f"{token} "):
        raise InputError(
            f"Another process is writing the index {connection.address} ({mark.split(':')[0]}): "
            "wait until it has finished."
        )
    return bool(before)


def _writer(connection: Connection) -> str:
    told = served(connection)
    return str(told["properties"].get(_PROPERTY, "")) if told else ""


def _lease(token: str) -> str:
    return f"{token} {time.time() + _LEASE_S:.0f}"


def _mark(connection: Connection, mark: str) -> None:
    if served(connection) is not None:
        name = connection.address.collection
        connection("alter_collection_properties", name, properties={_PROPERTY: mark})
