"""An agent finds pictures through `grape mcp`; the code of docs/clients.md is run."""

import json
import re
import subprocess
import sys
from pathlib import Path

from mcp import Client, StdioServerParameters

from tests.e2e.test_docs import run, shell_lines
from tests.support.grape_server import GRAPE, Server

PAGE = (Path(__file__).parent.parent.parent / "docs" / "clients.md").read_text()


def blocks(language: str, server: Server) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return [block.replace("http://127.0.0.1:8000", server.url) for block in found]


async def test_an_agent_asks_in_chinese(server: Server) -> None:
    """Started as the page says."""
    (settings,) = blocks("json", server)
    command = json.loads(settings)["mcpServers"]["grape"]
    assert command["command"] == ".venv/bin/grape"
    async with Client(StdioServerParameters(command=str(GRAPE), args=command["args"])) as agent:
        found = await agent.call_tool("search_images", {"query": "大象", "k": 10})
        assert found.structured_content
        names = [hit["metadata"]["name"] for hit in found.structured_content["hits"]]
        assert "elephant" in names
        assert found.structured_content["rewrite"]["status"] == "rewritten"
        assert [content.type for content in found.content].count("image") == 3
        shown = await agent.call_tool("rewrite_query", {"query": "大象"})
        assert shown.structured_content
        assert shown.structured_content["status"] == "rewritten"


def test_the_page_s_python(server: Server, tmp_path: Path) -> None:
    with_blocks, with_await = blocks("python", server)
    searched, rewritten = (
        subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout
        for code in (with_blocks, with_await)
    )
    lines = searched.splitlines()
    assert lines[0].startswith("rewritten ")
    assert len(lines) == 5
    assert f"{server.url}/images/" in lines[1]
    assert "guitar" in lines[4]
    assert "status='rewritten'" in rewritten


def test_the_page_s_events(server: Server, tmp_path: Path) -> None:
    *commands, line = shell_lines(PAGE)
    for command in commands:
        assert "horse" in run(command, server, tmp_path)
    line = line.replace("велосипед", "новый велосипед")  # what is kept has no beginnings
    events = re.findall(r"^event: (.*)$", run(line, server, tmp_path), re.MULTILINE)
    assert events[0] == "direct"
    assert events[-1] == "result"
    assert set(events[1:-1]) == {"rewrite"}
