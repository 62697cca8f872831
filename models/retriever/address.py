"""Where an index is: a folder, or a collection in Milvus. Light to import: it is a setting."""

import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import BeforeValidator, InstanceOf
from pydantic_settings import NoDecode

SCHEME = "milvus"
CONSISTENCY = ("strong", "bounded", "session", "eventually")
_COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_FORM = f"write {SCHEME}://HOST:PORT/COLLECTION"


class MilvusAddress(str):
    """``milvus://HOST:PORT/COLLECTION``, or ``milvus:///FILE.db/COLLECTION`` for Milvus Lite.

    Behind a question mark: ``consistency`` (strong, bounded, session or eventually), ``database``,
    and ``tls=true``. A user or a token is no part of it: addresses are logged.

    Raises:
        ValueError: it is none. The sentence says how one is written.
    """

    uri: str  # as pymilvus wants it
    collection: str
    consistency: str | None  # None: the one that the collection was built with
    database: str

    def __new__(cls, text: str) -> "MilvusAddress":
        self = super().__new__(cls, text)
        parts = _split(text)
        if parts.username is not None or parts.password is not None:
            raise ValueError("an address holds no user: set GRAPE_MILVUS_TOKEN to USER:PASSWORD")
        wishes = dict(parse_qsl(parts.query))
        self.consistency = wishes.pop("consistency", None)
        self.database = wishes.pop("database", "")
        tls = wishes.pop("tls", "false")
        if self.consistency not in (None, *CONSISTENCY) or tls not in ("true", "false") or wishes:
            raise ValueError(
                f"behind the question mark stand consistency ({', '.join(CONSISTENCY)}), database "
                "and tls=true"
            )
        where, _, self.collection = parts.path.rpartition("/")
        if not _COLLECTION.fullmatch(self.collection):
            raise ValueError(
                f"{self.collection[:60]!r} is no name of a collection (letters, digits and _): "
                f"{_FORM}"
            )
        if parts.netloc and not where:
            self.uri = f"{'https' if tls == 'true' else 'http'}://{parts.netloc}"
        elif where.endswith(".db") and not parts.netloc:
            self.uri = where
        else:
            raise ValueError(f"{text!r} is no address of a collection: {_FORM}")
        return self

    @property
    def name(self) -> str:
        """What answers call the index."""
        return self.collection


IndexPlace = Path | MilvusAddress


def read_place(given: Any) -> Any:
    """A folder or a collection, from what was typed.

    Raises:
        ValueError: an address of a collection that is not written like one.
    """
    is_address = isinstance(given, str) and given.startswith(f"{SCHEME}:")
    return MilvusAddress(given) if is_address else given


def folder_of(place: IndexPlace | None) -> Path | None:
    """The index folder; None for a collection."""
    return None if isinstance(place, MilvusAddress) else place


# A setting. What is no address is a path, as it always was.
Place = Annotated[InstanceOf[MilvusAddress] | Path, NoDecode, BeforeValidator(read_place)]


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        port_fits = not parts.netloc or parts.port is not None
    except ValueError as error:
        raise ValueError(f"{text!r} is no address of a collection: {_FORM}") from error
    if (
        parts.scheme != SCHEME
        or not port_fits
        or parts.fragment
        or not text.startswith("milvus://")
    ):
        raise ValueError(f"{text!r} is no address of a collection: {_FORM}")
    return parts
