"""What callers pass to the client's methods: checked before anything is sent."""

import base64
from collections.abc import AsyncIterable, Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx

from models.client.errors import ClientError

DEFAULT_URL = "http://127.0.0.1:8000"


def checked_url(url: str) -> str:
    """The address of a server, without a slash at its end.

    Raises:
        ClientError: it is none.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        parsed = httpx.URL()
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ClientError(
            "address", f"{url!r} is not a server address; write it like {DEFAULT_URL}."
        )
    return url.rstrip("/")


def checked_query(query: object, for_several: str) -> str:
    """A single query.

    Raises:
        ClientError: it is no str; the sentence says what to do instead.
    """
    if isinstance(query, str):
        return str(query)
    if isinstance(query, bytes | bytearray):
        hint = "decode it, as in query.decode()"
    elif isinstance(query, Path):
        hint = "for a picture, pass image=path instead"
    elif isinstance(query, Iterable):
        hint = f"{for_several} takes several queries"
    else:
        hint = "pass str(query) if that is what you mean"
    raise ClientError("argument", f"A query is a str, not {type(query).__name__}: {hint}.")


def checked_queries(queries: object, for_one: str) -> list[str]:
    """Several queries, from a list, a generator or any other iterable.

    Raises:
        ClientError: it is not iterable, or a single query, or an item is no str.
    """
    name = type(queries).__name__
    if isinstance(queries, str | bytes | bytearray | Path):
        raise ClientError(
            "argument", f"This takes several queries, not one {name}: use {for_one} for one query."
        )
    if isinstance(queries, AsyncIterable):
        raise ClientError(
            "argument", "Queries come one after another: make a list with `async for` first."
        )
    if isinstance(queries, Mapping) or not isinstance(queries, Iterable):
        raise ClientError("argument", f"Queries are a list of str, not {name}.")
    checked = []
    for position, query in enumerate(queries):
        if not isinstance(query, str):
            raise ClientError(
                "argument", f"queries[{position}] is a str, not {type(query).__name__}."
            )
        checked.append(str(query))
    return checked


def checked_documents(documents: object) -> list[Any]:
    """Candidates to rerank, from any iterable; the server checks what each of them holds.

    Raises:
        ClientError: it is not iterable, or a single text.
    """
    if isinstance(documents, str | bytes | Mapping) or not isinstance(documents, Iterable):
        name = type(documents).__name__
        raise ClientError("argument", f"Documents are a list of str or of dict, not {name}.")
    return list(documents)


def checked_count(name: str, value: object) -> None:
    """Checks that an argument is a whole number from 1.

    Raises:
        ClientError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ClientError("argument", f"{name} is a whole number from 1, not {value!r}.")


def image_sent(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, with a picture file as base64.

    Raises:
        ClientError: the file cannot be read.
    """
    image = params.get("image")
    if isinstance(image, Path):
        image = _file(image)
    if isinstance(image, bytes | bytearray):
        return {**params, "image": base64.b64encode(image).decode()}
    return dict(params)


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ClientError(
            "argument", f"{path} cannot be read: {error.strerror or error}."
        ) from error
