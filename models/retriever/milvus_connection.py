"""Calls of Milvus, with every failure as one sentence."""

import contextlib
import functools
import logging
import os
import time
from collections.abc import Iterator
from typing import Any

from models.common.errors import GrapeError, IndexDown, IndexMissing, InputError
from models.retriever.address import MilvusAddress

READ_S = 5.0  # for a search or a look-up, with its repetitions
WRITE_S = 120.0  # for a batch, a flush, or loading a collection
_AWAY_S = 1.0  # after a failure nothing is tried: requests would queue behind calls that wait
_NO_COLLECTION = 100  # Milvus's code
_ABSENT = ("can't find collection", "collection not found", "collection not exist", "alias not")
_AWAY = ("retry timeout", "retry run out", "fail connecting", "unavailable", "deadline exceeded")
_REFUSED = ("auth check failure", "unauthenticated", "permission deny", "privilege")


@functools.cache
def connected(address: MilvusAddress) -> "Connection":
    """The connection that all readers of an address share.

    Raises:
        GrapeError: see :class:`Connection`.
    """
    return Connection(address)


class Connection:
    """A client of one Milvus. Thread-safe.

    Raises:
        InputError: the package is missing, or Milvus refuses who asks.
        IndexDown: Milvus does not answer.
    """

    def __init__(self, address: MilvusAddress) -> None:
        try:
            import pymilvus
        except ImportError as error:
            raise InputError(
                "An index in Milvus needs the package pymilvus: install grape with its extra "
                "`milvus`."
            ) from error
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # failures are said once, here
        self.address = address
        self._failed: tuple[float, str] | None = None
        library: Any = pymilvus
        self._errors = _errors(library)
        token = os.environ.get("GRAPE_MILVUS_TOKEN", "")
        with self._sentences():
            self.client: Any = library.MilvusClient(
                address.uri, token=token, db_name=address.database, timeout=READ_S, dedicated=True
            )

    def __call__(
        self, name: str, /, *given: Any, timeout: float | None = None, **wishes: Any
    ) -> Any:
        """Calls a method of pymilvus's client.

        Raises:
            InputError: there is no such collection, or Milvus refuses who asks.
            IndexDown: Milvus does not answer, or failed.
        """
        if self._failed and time.monotonic() < self._failed[0]:
            raise IndexDown(self._failed[1])
        with self._sentences():
            found = getattr(self.client, name)(*given, timeout=timeout or READ_S, **wishes)
        self._failed = None
        return found

    def close(self) -> None:
        """Ends the connection."""
        with contextlib.suppress(*self._errors):
            self.client.close()

    @contextlib.contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise self._as_sentence(error) from error

    def _as_sentence(self, error: Exception) -> GrapeError:
        address = self.address
        said = " ".join(str(getattr(error, "message", "") or error).split())
        code = getattr(error, "code", None)
        if code == _NO_COLLECTION or any(sign in said.lower() for sign in _ABSENT):
            return IndexMissing(
                f"There is no collection {address.collection} in Milvus at {address.uri}: make one "
                f"with `grape index build PICTURES/ --out {address}`."
            )
        if any(sign in said.lower() for sign in _REFUSED):
            return InputError(
                f"Milvus at {address.uri} refuses this user: set GRAPE_MILVUS_TOKEN to "
                "USER:PASSWORD or to an API key."
            )
        if isinstance(code, int) and not any(sign in said.lower() for sign in _AWAY):
            return IndexDown(f"Milvus at {address.uri} failed: {said[:300]}")
        sentence = (
            f"Milvus at {address.uri} does not answer: is it running, and is the address right? "
            f"({said[:200]})"
        )
        self._failed = time.monotonic() + _AWAY_S, sentence
        return IndexDown(sentence)


def _errors(pymilvus: Any) -> tuple[type[Exception], ...]:
    import grpc

    # ValueError: what gRPC says of a channel that has been closed.
    return pymilvus.MilvusException, grpc.RpcError, ConnectionError, ValueError
