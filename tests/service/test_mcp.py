"""The tools for agents, asked by the MCP library's own client."""

import base64
import io
import json
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from mcp import Client, ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp_types import CallToolResult, ImageContent, TextContent
from PIL import Image

from models.client import AsyncClient
from models.rewriter.protocol import AUTO, RewriterDown, Sampling
from service.mcp import create_server
from tests.support.app import FakeRewriter
from tests.support.grape_server import GRAPE
from tests.support.loopback import listening

Call = Callable[..., Awaitable[CallToolResult]]


@pytest.fixture
def call(client: httpx.AsyncClient) -> Call:
    """Calls a tool over the application, both in this process."""

    async def ask(tool: str, **arguments: object) -> CallToolResult:
        here = AsyncClient("http://test", attempts=1, transport=client._transport)
        async with Client(create_server(here)) as agent:
            return await agent.call_tool(tool, arguments)

    return ask


def sentence(result: CallToolResult) -> str:
    assert result.is_error
    (content,) = result.content
    assert isinstance(content, TextContent)
    assert "\n" not in content.text
    assert content.text.endswith(".")
    return content.text


async def test_over_standard_input_and_output(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """A client of the protocol of 2025 starts `grape mcp` as agents' programs do."""
    with open(tmp_path / "log", "w") as log:
        async with listening(client) as url:
            command = StdioServerParameters(command=str(GRAPE), args=["mcp", "--url", url])
            async with (
                stdio_client(command, errlog=log) as (read, write),
                ClientSession(read, write) as session,
            ):
                hello = await session.initialize()
                assert hello.server_info.name == "grape"
                assert "any language" in (hello.instructions or "")
                tools = {tool.name: tool for tool in (await session.list_tools()).tools}
                assert set(tools) == {"search_images", "rewrite_query"}
                for tool in tools.values():
                    assert len(tool.description or "") > 100
                    assert tool.annotations
                    assert tool.annotations.read_only_hint
                    for parameter in tool.input_schema["properties"].values():
                        assert parameter["description"]
                found = await session.call_tool(
                    "search_images", {"query": "ein rotes Bild", "k": 2, "rewrite": "always"}
                )
                assert isinstance(found, CallToolResult)
                assert found.structured_content
                assert found.structured_content["rewrite"]["texts"] == ["a red square"]
                hit = found.structured_content["hits"][0]
                assert hit["url"] == f"{url}/images/{hit['id']}"
                assert (await client.get(hit["url"])).is_success
    assert (tmp_path / "log").read_text() == ""


async def test_hits_come_with_pictures(call: Call) -> None:
    found = await call("search_images", query="ein rotes Bild", k=4, rewrite="always")
    assert found.structured_content
    hits = found.structured_content["hits"]
    assert [hit["rank"] for hit in hits] == [1, 2, 3, 4]
    text, *shown = found.content
    assert isinstance(text, TextContent)
    assert json.loads(text.text) == found.structured_content
    assert [type(content) for content in shown] == [TextContent, ImageContent] * 3
    for hit, label, picture in zip(hits, shown[::2], shown[1::2], strict=False):
        assert isinstance(label, TextContent)
        assert isinstance(picture, ImageContent)
        assert label.text == f"rank {hit['rank']}: {hit['id']}"
        assert picture.mime_type == "image/webp"
        image = Image.open(io.BytesIO(base64.b64decode(picture.data))).convert("RGB")
        expected = Image.new("RGB", (1, 1), hit["metadata"]["name"]).getpixel((0, 0))
        seen = image.getpixel((9, 9))
        assert isinstance(expected, tuple)
        assert isinstance(seen, tuple)
        assert all(abs(a - b) < 12 for a, b in zip(expected, seen, strict=True))


async def test_a_search_goes_on_from_a_picture(call: Call) -> None:
    found = await call("search_images", query="aber blau", like="red.png", k=4)
    assert found.structured_content
    assert found.structured_content["rewrite"]["reason"] == "a picture to be changed: red"
    ids = [hit["id"] for hit in found.structured_content["hits"]]
    assert len(ids) == 4
    assert "red.png" not in ids


async def test_a_picture_that_is_gone_is_still_a_hit(call: Call, small_index: Path) -> None:
    file = small_index.parent / "red.png"
    aside = file.rename(file.with_suffix(".aside"))
    try:
        found = await call("search_images", query="a red square", k=5, rewrite="never")
    finally:
        aside.rename(file)
    assert found.structured_content
    best = [hit["id"] for hit in found.structured_content["hits"]][:3]
    labels = [content.text for content in found.content[1::2] if isinstance(content, TextContent)]
    assert labels == [f"rank {n}: {name}" for n, name in enumerate(best, 1) if name != "red.png"]
    assert "red.png" in best


async def test_nested_metadata_stays_out(client: httpx.AsyncClient) -> None:
    answer = (await client.post("/search", json={"query": "a", "k": 1})).json()
    metadata = {"name": "red", "names": {"de": "rot"}, "tags": ["a"], "year": 1999}
    answer["hits"][0] |= {"metadata": metadata, "url": None}
    vectors_alone = httpx.MockTransport(lambda request: httpx.Response(200, json=answer))
    async with Client(create_server(AsyncClient(transport=vectors_alone))) as agent:
        found = await agent.call_tool("search_images", {"query": "a"})
    assert found.structured_content
    (hit,) = found.structured_content["hits"]
    assert hit["metadata"] == {"name": "red", "year": 1999}
    assert len(found.content) == 1  # there is no picture to show


async def test_rewrites(call: Call, rewriter: FakeRewriter) -> None:
    shown = await call("rewrite_query", query="ein rotes Bild")
    assert shown.structured_content
    assert shown.structured_content["status"] == "rewritten"
    assert [rewrite["text"] for rewrite in shown.structured_content["rewrites"]] == ["a red square"]
    assert rewriter.calls[-1][1] == AUTO
    await call("rewrite_query", query="ein rotes Bild", n=4)
    assert rewriter.calls[-1][1] == Sampling(4)
    rewriter.error = RewriterDown("the engine is down")
    failed = (await call("rewrite_query", query="ein blaues Bild")).structured_content
    assert failed
    assert failed["status"] == "fallback"
    assert failed["reason"]


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        ("search_images", {"query": " "}, "query: String should have"),
        ("search_images", {}, "query: Field required"),
        ("search_images", {"query": "a", "k": 0}, "k: Input should be greater than"),
        ("search_images", {"query": "a", "k": "many"}, "k: Input should be a valid integer"),
        ("search_images", {"query": "a", "rewrite": "maybe"}, "rewrite: Input should be 'auto'"),
        ("search_images", {"query": "a" * 40_000}, "query: 40,000 characters are more than 32,000"),
        ("rewrite_query", {"query": ""}, "query: String should have"),
        ("rewrite_query", {"query": "a", "n": 17}, "n: Input should be 'auto' or a whole number"),
    ],
)
async def test_bad_input_is_one_sentence(
    call: Call, tool: str, arguments: dict[str, object], expected: str
) -> None:
    assert expected in sentence(await call(tool, **arguments))


async def test_without_a_server_the_agent_is_told_what_to_do() -> None:
    async with Client(create_server(AsyncClient("http://127.0.0.1:9", attempts=1))) as agent:
        for tool in ("search_images", "rewrite_query"):
            told = sentence(await agent.call_tool(tool, {"query": "ein Bild"}))
            assert told.startswith("http://127.0.0.1:9 cannot be reached")
            assert "start a server with `grape serve`" in told


def test_the_command_speaks_the_protocol_alone_and_ends_at_once() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([GRAPE, "mcp"], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as done:
        assert done.stdin
        assert done.stdout
        assert done.stderr
        done.stdin.write('{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')
        done.stdin.flush()
        assert json.loads(done.stdout.readline())["id"] == 1
        done.send_signal(signal.SIGINT)
        assert done.wait(5) == -signal.SIGINT
        assert (done.stdout.read(), done.stderr.read()) == ("", "")


@pytest.mark.parametrize(
    ("prepare", "arguments", "code", "told"),
    [
        ("pass", ["mcp"], 0, ""),  # the input is over before it began
        ("pass", ["mcp", "--url", "8000"], 2, "grape mcp: '8000' is not a server address"),
        ("sys.modules['mcp'] = None", ["mcp"], 1, "install GRAPE with its extra 'mcp'."),
    ],
)
def test_how_the_command_ends(prepare: str, arguments: list[str], code: int, told: str) -> None:
    program = f"import sys, grape; {prepare}; sys.exit(grape.run({arguments}))"
    done = subprocess.run(
        [sys.executable, "-c", program], input="", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr
    assert bool(done.stderr) == bool(told)
