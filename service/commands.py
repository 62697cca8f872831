"""The commands of the `grape` program, each a settings class: its fields are its flags."""

import asyncio
import contextlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import CLI_SUPPRESS, CliPositionalArg

from models.common.errors import GrapeError, InputError
from models.common.progress import say
from models.common.settings import CommandSettings
from models.common.text_output import as_json, one_line
from models.search.options import CANDIDATES, MOST_CANDIDATES, RewriteCount
from service.index_build import IndexBuild
from service.index_commands import (
    IndexAdd,
    IndexCheck,
    IndexInfo,
    IndexRemove,
    IndexSync,
)
from service.settings import Settings
from service.shell import as_lines, print_hits, read_base64, read_lines, unasked

__all__ = ["IndexAdd", "IndexBuild", "IndexCheck", "IndexInfo", "IndexRemove", "IndexSync"]

BATCH = 64  # queries in a request; fewer if the server refuses them


class Serve(Settings):
    """Serves the API and the web page. Listens at once; /readyz reports what is still loading."""

    def cli_cmd(self) -> None:
        from service.listen import listen_and_serve

        listen_and_serve(self)


class _Client(Settings):
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


class Search(_Client):
    """Searches once, here or at --url.

    All settings of `grape serve` are accepted as well; see `grape serve --help`.
    """

    shown = _Client.shown | {"rewrite", "fusion", "n"}
    bare: ClassVar[Mapping[str, str]] = {"--rerank": str(CANDIDATES)}

    query: CliPositionalArg[str | None] = Field(
        None, description="what to look for, in any language"
    )
    image: Path | None = Field(
        None, description="a picture to search with; a query then says what should be different"
    )
    k: int = Field(10, ge=1, le=1000, description="maximum number of hits")
    rerank: int | None = Field(
        None,
        ge=1,
        le=MOST_CANDIDATES,
        description=f"let the language model reorder so many first hits; alone: {CANDIDATES}",
    )
    filter: str | None = Field(
        None,
        description="what the metadata of a hit must be, as JSON, such as "
        """'{"year": {"gte": 2020}}'; docs/filters.md has the rules""",
    )

    def cli_cmd(self) -> None:
        from models.retriever.filters import parse_filter_text

        query = _checked(self.query)
        if query is None and self.image is None:
            raise InputError("there is nothing to look for: give a query or an --image.")
        body: dict[str, Any] = {"query": query, "k": self.k, "rewrite": self.rewrite}
        body |= {"fusion": self.fusion, "n": self.n, "rerank": self.rerank or False}
        if self.image:
            body["image"] = read_base64(self.image)
        if self.filter is not None:
            body["filter"] = parse_filter_text(self.filter).given
        answer = _ask("/search", body, self)
        if self.as_json:
            print(as_json(answer))
        else:
            print_hits(answer)


class Rewrite(_Client):
    """Rewrites a query, or each line of standard input. Prints one rewrite a line.

    A line read is a line written: a blank one stays blank, and several rewrites of a line are
    separated by tabs. All settings of `grape serve` are accepted as well; see `grape serve --help`.
    """

    shown = _Client.shown | {"n"}

    query: CliPositionalArg[str | None] = Field(
        None, description="a query; without one, or with '-', standard input is read"
    )
    task: Literal["auto", "multilingual", "long"] = Field("auto", description="kind of query")
    n: RewriteCount = Field(1, description="rewrites of each query, or 'auto'")
    temperature: float = Field(
        0.0, ge=0, le=2, description="0 finds the most probable rewrites; above 0 they are drawn"
    )

    def cli_cmd(self) -> None:
        if (query := _checked(self.query)) is not None:
            (result,) = self._results([query])
            print(as_json(result) if self.as_json else "\n".join(as_lines(result, self.n)))
            return
        lines = read_lines(sys.stdin.buffer)
        results = self._results([line for line in lines if line])
        for line in lines:
            result = next(results) if line else unasked("", "kept", "a blank line")
            print(as_json(result) if self.as_json else "\t".join(as_lines(result, self.n)))

    def _results(self, queries: list[str]) -> Iterator[dict[str, Any]]:
        """The result of each query."""
        options = {"task": self.task, "n": self.n, "temperature": self.temperature}
        # In this process, the model is loaded once and takes all queries.
        at_once = BATCH if self.url else max(len(queries), 1)
        for start in range(0, len(queries), at_once):
            for result in self._answers(queries[start : start + at_once], options):
                if result["status"] == "fallback":
                    say(f"not rewritten: {result['reason']}")
                yield result

    def _answers(self, queries: list[str], options: dict[str, Any]) -> list[dict[str, Any]]:
        """The results of some queries. Half as many are sent if the server refuses them."""
        try:
            answer = _ask("/rewrite", {"query": queries, **options}, self)
        except InputError as error:
            refused = getattr(error.__cause__, "status", None) in (413, 422)
            if not refused or self.query is not None:
                raise
            if len(queries) == 1:  # the other lines are rewritten all the same
                return [unasked(queries[0], "fallback", str(error))]
            half = len(queries) // 2
            first = self._answers(queries[:half], options)
            return first + self._answers(queries[half:], options)
        results: list[dict[str, Any]] = answer["results"]
        return results


class Mcp(CommandSettings):
    """Offers a running server's search to agents as MCP tools, over standard input and output."""

    url: str = Field("http://127.0.0.1:8000", description="the running server")
    api_key: SecretStr | None = Field(None, description="the server's API key, if it needs one")

    def cli_cmd(self) -> None:
        try:
            from service.mcp import serve
        except ModuleNotFoundError as error:
            raise GrapeError(
                f"`grape mcp` needs the package {error.name}: install GRAPE with its extra 'mcp'."
            ) from error
        with _exit_code_2_for_bad_input():
            serve(self.url, _plain(self.api_key))


class DemoPrepare(CommandSettings):
    """Fetches and converts the demo's language model and builds its gallery. Needed once."""

    llm: Literal["gemma3-270m", "smollm2-135m-instruct"] = Field(
        "gemma3-270m", description="language model"
    )

    def cli_cmd(self) -> None:
        from models.common.paths import demo_dir
        from models.demo.ready import is_prepared

        if is_prepared(self.llm):  # before the slow imports
            say(f"The demo is ready in {demo_dir()}.")
            return
        from models.demo.prepare import prepare

        prepare(self.llm)


def _ask(route: str, body: dict[str, Any], settings: _Client) -> dict[str, Any]:
    if settings.url:
        return _ask_server(settings.url, _plain(settings.api_key), route, body)
    from service.runtime.in_process import answer_here

    return asyncio.run(answer_here(route, body, settings))


def _plain(key: SecretStr | None) -> str | None:
    return key.get_secret_value() if key else None


def _ask_server(url: str, key: str | None, route: str, body: dict[str, Any]) -> dict[str, Any]:
    from models.client import Client

    with _exit_code_2_for_bad_input(), Client(url, api_key=key, timeout_s=120) as client:
        return client.ask(route, body)


@contextlib.contextmanager
def _exit_code_2_for_bad_input() -> Iterator[None]:
    from models.client import ClientError

    try:
        yield
    except ClientError as error:
        if error.is_bad_input:
            raise InputError(error.message) from error
        raise


def _checked(query: str | None) -> str | None:
    """The query that was typed; None if there is none."""
    if query is not None and not query.strip():
        raise InputError("the query is empty.")
    if query is not None and not query.isprintable():
        query = one_line(query)
    return query
