"""The commands of the `grape` program, each a settings class: its fields are its flags."""

import importlib
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import AliasChoices, Field, PrivateAttr, SecretStr
from pydantic_settings import CliPositionalArg

from models.common.errors import GrapeError, InputError
from models.common.findings import tell
from models.common.progress import say
from models.common.settings import CommandSettings, PlanSettings
from models.common.text_output import as_json, one_line, tab_separated
from models.search.options import CANDIDATES, MOST_CANDIDATES, RewriteCount
from service import asking
from service.asking import ClientSettings
from service.index_build import IndexBuild
from service.index_commands import (
    IndexAdd,
    IndexCheck,
    IndexInfo,
    IndexRemove,
    IndexSync,
)
from service.settings import Settings
from service.shell import (
    HEADINGS,
    Show,
    as_lines,
    print_files,
    print_hits,
    read_base64,
    read_lines,
    unasked,
)

__all__ = [
    "IndexAdd",
    "IndexBuild",
    "IndexCheck",
    "IndexInfo",
    "IndexRemove",
    "IndexSync",
]


def __getattr__(name: str) -> object:
    """Imports what needs more than the client's packages when it is first used."""
    if name == "Doctor":
        return importlib.import_module("service.doctor").Doctor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class Serve(PlanSettings, Settings):
    """Serves the API and the web page. Listens at once; /readyz reports what is still loading."""

    def cli_cmd(self) -> None:
        if self.plan:
            from service.doctor import examine

            tell(examine(self), self.plan_as_json)
            return
        from service.listen import listen_and_serve

        listen_and_serve(self)


class Search(ClientSettings):
    """Searches for a query, or for each line of standard input, here or at --url.

    All settings of `grape serve` are accepted as well; see `grape serve --help`.
    """

    shown = ClientSettings.shown | {"rewrite", "fusion", "n"}
    _show: Show | None = PrivateAttr(None)
    bare: ClassVar[Mapping[str, str]] = {"--rerank": str(CANDIDATES)}

    query: CliPositionalArg[str | None] = Field(
        None,
        description="what to look for, in any language; without one, or with '-', standard input "
        "is read",
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
    files: bool = Field(
        False,
        validation_alias=AliasChoices("f", "files"),
        description="print the paths of the pictures alone, for `xargs -d '\\n'`",
    )
    images: bool = Field(
        False,
        description="show thumbnails in a terminal that can: kitty, or one with Sixel such as "
        "iTerm2; needs the extra 'terminal'",
    )
    filter: str | None = Field(
        None,
        description="what the metadata of a hit must be, as JSON, such as "
        """'{"year": {"gte": 2020}}'; docs/filters.md has the rules""",
    )

    def cli_cmd(self) -> None:
        from models.retriever.filters import parse_filter_text

        query = _checked(self.query)
        self._show = self._shown() if self.images else None
        body: dict[str, Any] = {"k": self.k, "rewrite": self.rewrite, "fusion": self.fusion}
        body |= {"n": self.n, "rerank": self.rerank or False}
        if self.image:
            body["image"] = read_base64(self.image)
        if self.filter is not None:
            body["filter"] = parse_filter_text(self.filter).given
        if query is not None or self.image is not None:
            self._print(asking.ask("/search", {"query": query, **body}, self))
            return
        if sys.stdin.isatty():
            raise InputError(
                "there is nothing to look for: give a query or an --image, or pipe in lines."
            )
        queries = [line for line in read_lines(sys.stdin.buffer) if line]
        if not (self.as_json or self.files or sys.stdout.isatty()):
            print(tab_separated([("query", *HEADINGS)]))
        for answer in asking.answers(self, "/search", queries, body, _not_found):
            self._print(answer, several=True)

    def _print(self, answer: dict[str, Any], several: bool = False) -> None:
        if self.as_json:
            print(as_json(answer))
        elif self.files:
            print_files(answer, self._folder)
        else:
            print_hits(answer, several, self._show)

    def _shown(self) -> Show | None:
        """Shows the picture of a hit; None if this terminal cannot."""
        from service import thumbnails

        if self.as_json or self.files:
            raise InputError("--images shows pictures beside the table: leave out --json or -f.")
        terminal = thumbnails.terminal()
        if terminal is None:
            return None
        if self.url:
            read = thumbnails.from_server(self.url, asking.plain(self.api_key))
        else:
            read = thumbnails.from_folder(self._folder)

        def show(hit: dict[str, Any]) -> None:
            if data := read(hit):
                terminal.show(data)

        return show

    @cached_property
    def _folder(self) -> str:
        """Where the pictures are; unknown of a server, whose paths are below its folder."""
        from models.common.paths import index_dir
        from models.retriever.open import manifest_of

        if self.pictures or self.url:
            return str(self.pictures or "")
        return manifest_of(self.index or index_dir()).pictures or ""


class Rewrite(ClientSettings):
    """Rewrites a query, or each line of standard input. Prints one rewrite a line.

    A line read is a line written: a blank one stays blank, and several rewrites of a line are
    separated by tabs. All settings of `grape serve` are accepted as well; see `grape serve --help`.
    """

    shown = ClientSettings.shown | {"n"}

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
        refused = _not_rewritten if self.query is None else None
        for result in asking.answers(self, "/rewrite", queries, options, refused):
            if result["status"] == "fallback":
                say(f"not rewritten: {result['reason']}")
            yield result


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
        with asking.exit_code_2_for_bad_input():
            serve(self.url, asking.plain(self.api_key))


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


def _checked(query: str | None) -> str | None:
    """The query that was typed; None if there is none."""
    if query is not None and not query.strip():
        raise InputError("the query is empty.")
    if query is not None and not query.isprintable():
        query = one_line(query)
    return query


def _not_rewritten(query: str, reason: str) -> dict[str, Any]:
    return unasked(query, "fallback", reason)


def _not_found(query: str, reason: str) -> dict[str, Any]:
    say(f"{query[:60]}: {reason}")
    return {"query": query, "error": reason, "hits": []}
