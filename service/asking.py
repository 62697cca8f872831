"""Asking a server at --url, or the models in this process, for the commands that take a query."""

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import CLI_SUPPRESS

from models.common.errors import InputError
from service.settings import Settings

BATCH = 64  # queries in a request; fewer if the server refuses them


class ClientSettings(Settings):
    """A command that loads the models itself, so that it takes every setting of the server.

    Its help shows only those that are listed in ``shown``, and its own.
    """

    shown: ClassVar[frozenset[str]] = frozenset({"config", "debug", "index"})

    url: str | None = Field(
        None, description="a running server; without one, the models are loaded here"
    )
    api_key: SecretStr | None = Field(None, description="API key of the server at --url")
    as_json: bool = Field(False, validation_alias=AliasChoices("json"), description="print JSON")

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls.__doc__ = inspect.cleandoc(cls.__doc__ or "")
        for name in Settings.model_fields.keys() - cls.shown:
            field = cls.model_fields[name]
            field.metadata = [*field.metadata, CLI_SUPPRESS]


def ask(route: str, body: dict[str, Any], settings: ClientSettings) -> dict[str, Any]:
    if settings.url:
        return _ask_server(settings.url, plain(settings.api_key), route, body)
    from service.runtime.in_process import answer_here

    return asyncio.run(answer_here(route, body, settings))


def plain(key: SecretStr | None) -> str | None:
    return key.get_secret_value() if key else None


def _ask_server(url: str, key: str | None, route: str, body: dict[str, Any]) -> dict[str, Any]:
    from models.client import Client

    with exit_code_2_for_bad_input(), Client(url, api_key=key, timeout_s=120) as client:
        return client.ask(route, body)


@contextlib.contextmanager
def exit_code_2_for_bad_input() -> Iterator[None]:
    from models.client import ClientError

    try:
        yield
    except ClientError as error:
        if error.is_bad_input:
            raise InputError(error.message) from error
        raise


def answers(
    settings: ClientSettings,
    route: str,
    queries: list[str],
    options: dict[str, Any],
    refused: Callable[[str, str], dict[str, Any]] | None = None,
) -> Iterator[dict[str, Any]]:
    """The result of each query.

    Args:
        refused: the result for a query that the server refuses, and its reason: the others are
            answered all the same. Without it, that is an error.

    Raises:
        InputError: the server refuses all of them.
    """
    # In this process, the models are loaded once and take all queries.
    at_once = BATCH if settings.url else max(len(queries), 1)

    def some(part: list[str]) -> list[dict[str, Any]]:
        """Half as many are sent if the server refuses them."""
        try:
            results: list[dict[str, Any]] = ask(route, {"query": part, **options}, settings)[
                "results"
            ]
        except InputError as error:
            if not refused or getattr(error.__cause__, "status", None) not in (413, 422):
                raise
            if len(part) == 1:
                refusals.append(error)
                return [refused(part[0], str(error))]
            half = len(part) // 2
            return some(part[:half]) + some(part[half:])
        return results

    refusals: list[InputError] = []
    for start in range(0, len(queries), at_once):
        yield from some(queries[start : start + at_once])
    if refusals and len(refusals) == len(queries):
        raise refusals[0]
