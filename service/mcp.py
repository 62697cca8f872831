"""Tools for agents over the Model Context Protocol, in front of a running server: `grape mcp`."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Annotated, Any

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp_types import (
    CallToolResult,
    ContentBlock,
    InputRequiredResult,
    TextContent,
    ToolAnnotations,
)
from pydantic import BaseModel, Field, StringConstraints, ValidationError

from models.client import AsyncClient, ClientError
from models.client.params import SearchParams
from models.client.wire import RewriteResult, SearchedTexts, SearchHit
from models.common.progress import say
from models.search.options import RewriteCount, RewriteMode

SHOWN = 3  # hits returned as images too; each costs the model tokens
SHOWN_PIXELS = 256

INSTRUCTIONS = (
    "Searches one collection of pictures by what they show, in any language. Pass the user's own "
    "words to search_images; it rewrites those that the image search would not understand."
)
READS_ONLY = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)

Query = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1),
    Field(description="What the picture shows, in the user's own words and language."),
]
Count = Annotated[int, Field(ge=1, le=50, description="How many pictures to return.")]
Rewrite = Annotated[
    RewriteMode,
    Field(
        description="'auto' rewrites what the image search would not understand, such as other "
        "languages and long descriptions; 'always' rewrites every query; 'never' searches for "
        "exactly these words."
    ),
]
Like = Annotated[
    str | None,
    Field(
        description="Id of a picture from an earlier search; the query then says what should be "
        "different, as in 'but blue'."
    ),
]


Reranks = Annotated[
    bool,
    Field(
        description="Let the language model compare the first 20 hits: slower, and more often "
        "right for single words in other languages than English."
    ),
]
Filter = Annotated[
    dict[str, Any] | None,
    Field(
        description='What the metadata of a hit must be, such as {"year": {"gte": 2020}} or '
        '{"any": [{"tags": {"in": ["a", "b"]}}, {"not": {"name": {"prefix": "c"}}}]}. Operators: '
        "eq, in, gt, gte, lt, lte (numbers or ISO dates), prefix, exists. An error names the "
        "fields that there are."
    ),
]
Rewrites = Annotated[
    RewriteCount,
    Field(
        description="How many rewrites to show, from 1 to 16; 'auto' shows as many as cover most "
        "of what the query may mean."
    ),
]


class FoundPictures(BaseModel):
    """The result of `search_images`; metadata values that are lists or tables are left out."""

    query: str
    rewrite: SearchedTexts
    confident: bool = Field(description="whether the first hit is more likely right than wrong")
    hits: list[SearchHit]


def serve(url: str, api_key: str | None = None) -> None:
    """Speaks MCP over standard input and output until the input ends.

    Raises:
        ClientError: ``url`` is not a URL, or ``api_key`` cannot be a key. A server that cannot be
            reached is reported by each call, because an agent may start before the server does.
    """
    server = create_server(AsyncClient(url, api_key=api_key))
    # Python's own handler would wait for the thread that blocks on standard input.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.stdin.isatty():
        say(f"Waiting for an MCP client on standard input, to search {url}. Ctrl-C quits.")
    server.run("stdio")


def create_server(client: AsyncClient) -> MCPServer[None]:
    """Returns an MCP server whose tools use this client; it closes the client when it ends."""

    @contextlib.asynccontextmanager
    async def lifespan(_: MCPServer[None]) -> AsyncIterator[None]:
        async with client:
            yield

    server = _Server(
        "grape",
        title="GRAPE image search",
        instructions=INSTRUCTIONS,
        version=version("grape"),
        log_level="WARNING",
        lifespan=lifespan,
    )
    tools = _Tools(client)
    server.add_tool(tools.search_images, title="Search images", annotations=READS_ONLY)
    server.add_tool(tools.rewrite_query, title="Rewrite a query", annotations=READS_ONLY)
    return server


class _Tools:
    """The tools. Their signatures and docstrings are what an agent is shown."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def search_images(  # noqa: PLR0913 - a tool is its parameters
        self,
        query: Query,
        k: Count = 5,
        rewrite: Rewrite = "auto",
        like: Like = None,
        rerank: Reranks = False,
        filter: Filter = None,
    ) -> Annotated[CallToolResult, FoundPictures]:
        """Finds the pictures of the collection that best match the query.

        Accepts any language: pass the user's words instead of translating them. Returns the k best
        hits, best first. Each has an id, a url (the picture as WebP; ?size=N sets the longer side
        in pixels) and metadata such as name and file. The first three also follow as small images.
        `rewrite.texts` is what was really searched for, `rewrite.probabilities` how probable each
        of these meanings is. `rewrite.status` is 'fallback' if the query could not be rewritten. A
        hit's score is the probability that it is the picture meant, if one of the collection is;
        'rewrite 2' in `found_by` means that the second of the texts found it. There are hits even
        when no picture matches: look at the images before you say what was found, above all if
        `confident` is false.
        """
        params: SearchParams = {"k": k, "rewrite": rewrite}
        if like:
            params["image_id"] = like
        if rerank:
            params["rerank"] = True
        if filter is not None:
            params["filter"] = filter
        found = await self._client.search(query, **params)
        hits = [_flat(hit) for hit in found.hits]
        answer = FoundPictures(
            query=query, rewrite=found.rewrite, confident=found.confident, hits=hits
        )
        shown = await asyncio.gather(*(_shown(self._client, hit) for hit in hits[:SHOWN]))
        return CallToolResult(
            content=[
                TextContent(text=answer.model_dump_json()),
                *(block for blocks in shown for block in blocks),
            ],
            structured_content=answer.model_dump(mode="json"),
        )

    async def rewrite_query(self, query: Query, n: Rewrites = "auto") -> RewriteResult:
        """Shows how a query is rewritten for the image search, without searching.

        Returns `rewrites`, short English texts that would be searched for, the most probable first,
        with `status` 'rewritten'; or with 'fallback' or 'kept' and the reason if the query stays as
        it is. search_images does this by itself; use this tool to find out why it found what it
        found.
        """
        return await self._client.rewrite(query, n=n)


class _Server(MCPServer[None]):
    """Reports a failed call in one sentence, without the text that the library adds."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[None, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        try:
            return await super().call_tool(name, arguments, context)
        except UnexpectedToolError as error:
            if isinstance(error.__cause__, ClientError):
                raise ToolError(error.__cause__.message) from error
            raise
        except ToolError as error:
            if isinstance(error.__cause__, ValidationError):
                raise ToolError(_first_reason(error.__cause__)) from error
            raise


def _first_reason(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg'].removeprefix('Value error, ')}."


def _flat(hit: SearchHit) -> SearchHit:
    """Drops nested metadata: the demo's names in 14 languages would fill a model's context."""
    metadata = {
        key: value for key, value in hit.metadata.items() if not isinstance(value, dict | list)
    }
    return hit.model_copy(update={"metadata": metadata})


async def _shown(client: AsyncClient, hit: SearchHit) -> list[ContentBlock]:
    """A caption and the picture; nothing if the file no longer exists."""
    if hit.url is None:
        return []
    try:
        picture = await client.picture(hit.id, SHOWN_PIXELS)
    except ClientError as error:
        if error.error_type == "not_found":  # the hit itself remains valid
            return []
        raise
    image = Image(data=picture, format="webp").to_image_content()
    return [TextContent(text=f"rank {hit.rank}: {hit.id}"), image]
