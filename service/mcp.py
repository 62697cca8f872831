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

from models.client.client import AsyncClient, ClientError, SearchWishes
from models.client.wire import RewriteResult, SearchedTexts, SearchHit
from models.common.progress import say
from models.search.options import RewriteMode

SHOWN = 3  # pictures that come along as images; a model pays for each of them
SHOWN_PIXELS = 256

INSTRUCTIONS = (
    "Searches one collection of pictures by what they show, in any language. Use search_images "
    "with the user's own words; it rewrites them where the search would not understand them."
)
READS_ONLY = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)

Query = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1),
    Field(description="What the picture shows, in the user's own words and language; one wish."),
]


class FoundPictures(BaseModel):
    """What `search_images` answers; of the metadata only what is no list or table."""

    query: str
    rewrite: SearchedTexts
    hits: list[SearchHit]


def serve(url: str, api_key: str | None = None) -> None:
    """Speaks MCP over standard input and output until the input ends.

    Raises:
        ClientError: ``url`` is no address, or ``api_key`` no key. That nothing answers there is
            told call by call: an agent may be started before the server.
    """
    server = create_server(AsyncClient(url, api_key=api_key))
    # Ctrl-C would wait for the thread that reads standard input, and with it for a line.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.stdin.isatty():
        say(f"Waiting for an MCP client on standard input, to search at {url}; Ctrl-C ends it.")
    server.run("stdio")


def create_server(client: AsyncClient) -> MCPServer[None]:
    """The tools over this client, which is closed when the server ends."""

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

    @server.tool(title="Search images", annotations=READS_ONLY)
    async def search_images(
        query: Query,
        k: Annotated[int, Field(ge=1, le=50, description="How many pictures to return.")] = 5,
        rewrite: Annotated[
            RewriteMode,
            Field(
                description="'auto' rewrites what the image search would not understand, such as "
                "other languages and descriptions; 'always' rewrites everything; 'never' searches "
                "for exactly these words."
            ),
        ] = "auto",
        like: Annotated[
            str | None,
            Field(
                description="Id of a picture that was found before: the query then says what is "
                "to be different about it, as in 'but blue'."
            ),
        ] = None,
    ) -> Annotated[CallToolResult, FoundPictures]:
        """Finds the pictures of the collection that best show what the query says.

        Takes any language: ask in the user's words instead of translating first. Returns the k
        best as hits, best first, each with id, url (the picture as WebP; ?size=N sets the longer
        side) and metadata such as name and file; the first three follow as small images.
        `rewrite.texts` is what was really searched for, `rewrite.status` is 'fallback' when the
        query could not be rewritten. There are hits even when no picture fits, and
        scores compare only among what one search found: look at the images before you say what
        was found.
        """
        wishes: SearchWishes = {"k": k, "rewrite": rewrite}
        if like:
            wishes["image_id"] = like
        found = await client.search(query, **wishes)
        hits = [_flat(hit) for hit in found.hits]
        answer = FoundPictures(query=query, rewrite=found.rewrite, hits=hits)
        shown = await asyncio.gather(*(_shown(client, hit) for hit in hits[:SHOWN]))
        return CallToolResult(
            content=[
                TextContent(text=answer.model_dump_json()),
                *(block for blocks in shown for block in blocks),
            ],
            structured_content=answer.model_dump(mode="json"),
        )

    @server.tool(title="Rewrite a query", annotations=READS_ONLY)
    async def rewrite_query(query: Query) -> RewriteResult:
        """Shows how a query would be put for the image search, without searching.

        Returns `rewrites`, the short English text that would be searched for, with `status`
        'rewritten', or with 'fallback' or 'kept' and the reason when the query stays as it is.
        search_images does this by itself; use this to find out why it found what it found.
        """
        return await client.rewrite(query)

    return server


class _Server(MCPServer[None]):
    """Tells the agent what failed in one sentence, without the library's words around it."""

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
    return f"{place}: {first['msg']}."


def _flat(hit: SearchHit) -> SearchHit:
    """The hit without nested metadata: the demo's names in 14 languages would fill a context."""
    metadata = {
        key: value for key, value in hit.metadata.items() if not isinstance(value, dict | list)
    }
    return hit.model_copy(update={"metadata": metadata})


async def _shown(client: AsyncClient, hit: SearchHit) -> list[ContentBlock]:
    """The picture and a line that says which it is; nothing when there is no such file."""
    if hit.url is None:
        return []
    try:
        picture = await client.picture(hit.id, SHOWN_PIXELS)
    except ClientError as error:
        if error.error_type == "not_found":  # it is still a hit
            return []
        raise
    image = Image(data=picture, format="webp").to_image_content()
    return [TextContent(text=f"rank {hit.rank}: {hit.id}"), image]
