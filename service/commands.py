"""The commands of the `grape` program, each a settings class: its fields are its flags."""

import asyncio
import base64
import contextlib
import inspect
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import CLI_SUPPRESS, CliPositionalArg

from models.common.errors import GrapeError, InputError
from models.common.progress import say
from models.common.settings import CommandSettings
from models.search.options import RewriteCount
from service.settings import Settings


class Serve(Settings):
    """Serves the API and the web page. Listens at once; /readyz reports what is still loading."""

    def cli_cmd(self) -> None:
        from service.api.server import serve

        serve(self)


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

    query: CliPositionalArg[str | None] = Field(
        None, description="what to look for, in any language"
    )
    image: Path | None = Field(
        None, description="a picture to search with; a query then says what should be different"
    )
    k: int = Field(10, ge=1, le=1000, description="maximum number of hits")

    def cli_cmd(self) -> None:
        if not self.query and not self.image:
            raise InputError("there is nothing to look for: give a query or an --image.")
        body = {name: getattr(self, name) for name in ("query", "k", "rewrite", "fusion", "n")}
        if self.image:
            body["image"] = _read_base64(self.image)
        answer = _ask("/search", body, self)
        if self.as_json:
            print(json.dumps(answer, ensure_ascii=False))
        else:
            _print_hits(answer)


class Rewrite(_Client):
    """Rewrites a query, or each line of standard input. Prints one rewrite a line.

    All settings of `grape serve` are accepted as well; see `grape serve --help`.
    """

    shown = _Client.shown | {"n"}

    query: CliPositionalArg[str | None] = Field(
        None, description="a query; without one, standard input is read"
    )
    task: Literal["auto", "multilingual", "long"] = Field("auto", description="kind of query")
    n: RewriteCount = Field(1, description="rewrites of each query, or 'auto'")
    temperature: float = Field(
        0.0, ge=0, le=2, description="0 finds the most probable rewrites; above 0 they are drawn"
    )

    def cli_cmd(self) -> None:
        queries = [self.query] if self.query else _lines(sys.stdin)
        options = {"task": self.task, "n": self.n, "temperature": self.temperature}
        # In this process, the model is loaded once and takes all queries.
        rewrites = 1 if self.n == "auto" else self.n
        at_once = max(1, self.max_queries // rewrites) if self.url else len(queries)
        for start in range(0, len(queries), at_once):
            body = {"query": queries[start : start + at_once], **options}
            for result in _ask("/rewrite", body, self)["results"]:
                if result["status"] == "fallback":
                    say(f"not rewritten: {result['reason']}")
                if self.as_json:
                    print(json.dumps(result, ensure_ascii=False))
                else:
                    for rewrite in result["rewrites"]:
                        print(rewrite["text"])


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


class IndexBuild(CommandSettings):
    """Indexes every JPEG, PNG, WebP, GIF and SVG below a folder, and reports broken files."""

    pictures: CliPositionalArg[Path] = Field(description="folder of pictures")
    out: Path = Field(description="index folder to write")
    encoder: str | None = Field(
        None, description="open_clip model ('ViT-B-32', 'hf-hub:...'); defaults to the demo's own"
    )
    pretrained: str | None = Field(None, description="open_clip's tag of the encoder's weights")
    encoder_device: str = Field("cpu", description="cpu, cuda, cuda:1, ...")
    encoder_precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="the encoder's floating-point type"
    )
    factory: str = Field("Flat", description="FAISS factory string; 'Flat' is exact")
    known_queries: Path | None = Field(
        None,
        description="text file with queries that the encoder understands (such as captions), one a "
        "line; `rewrite: auto` compares a query's best score with theirs",
    )

    def cli_cmd(self) -> None:
        from models.common.progress import track
        from models.retriever.pictures import find_pictures
        from models.search.normalise import normalise

        known = list(map(normalise, _read_lines(self.known_queries))) if self.known_queries else []
        files = find_pictures(self.pictures)  # fails before the slow imports
        from models.retriever.build import build_from_folder
        from models.retriever.open import EncoderOptions, open_encoder

        encoder = open_encoder(
            EncoderOptions(
                self.encoder, self.pretrained, self.encoder_device, self.encoder_precision
            )
        )
        index, report = build_from_folder(
            self.pictures,
            encoder,
            self.factory,
            track=lambda paths: track(paths, "Indexing", len(files)),
        )
        if known:
            index.learn_known_scores(encoder.encode_texts(known))
        index.save(self.out)
        for name, reason in report.skipped:
            say(f"skipped {name}: {reason}")
        print(f"{self.out}: {report.indexed} pictures indexed, {len(report.skipped)} skipped.")


class IndexInfo(CommandSettings):
    """Prints the manifest of an index."""

    index: CliPositionalArg[Path | None] = Field(
        None, description="index folder; defaults to the demo gallery"
    )

    def cli_cmd(self) -> None:
        from models.common.paths import index_dir
        from models.retriever.manifest import read_manifest

        print(read_manifest(self.index or index_dir()).model_dump_json(indent=2))


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


def _read_lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text: {error}.") from error
    if not any(lines):
        raise InputError(f"{path} contains no queries.")
    return [line for line in lines if line]


def _read_base64(path: Path) -> str:
    try:
        return base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def _lines(stream: Iterable[str]) -> list[str]:
    lines = [line.strip() for line in stream if line.strip()]
    if not lines:
        raise InputError("there is no query: give one, or pipe in lines.")
    return lines


def _print_hits(answer: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    rewrite = answer["rewrite"]
    texts = dict(zip(rewrite["texts"], rewrite["probabilities"], strict=True))
    if rewrite["status"] == "rewritten" and sys.stdout.isatty():
        shown = [text if p is None else f"{text} ({p:.0%})" for text, p in texts.items()]
        print(f"searched for: {', '.join(shown)}")
    if rewrite["status"] == "fallback":
        say(f"not rewritten: {rewrite['reason']}")
    if answer["hits"] and not answer["confident"]:
        say("no picture is a sure match: look at the first few.")
    table = Table("rank", "score", "id", "file", "found by", box=None, pad_edge=False)
    table.columns[0].justify = table.columns[1].justify = "right"
    for hit in answer["hits"]:
        metadata = hit["metadata"]
        name = " ".join(str(metadata[key]) for key in ("file", "name", "text") if key in metadata)
        found_by = ", ".join(_searched_text(search, rewrite) for search in hit["found_by"])
        table.add_row(str(hit["rank"]), f"{hit['score']:.3f}", hit["id"], name, found_by)
    width = None if sys.stdout.isatty() else 200  # do not cut piped lines at 80
    Console(width=width, markup=False, highlight=False).print(table)


def _searched_text(search: str, rewrite: dict[str, Any]) -> str:
    """What a search is called: the rewrite itself instead of its number."""
    name, _, number = search.partition(" ")
    single = name == "rewrite" and rewrite["parts"] == 1
    return str(rewrite["texts"][int(number) - 1]) if single else search
