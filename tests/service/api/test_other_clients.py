"""HTTP clients that nobody here wrote: Java's, curl with HTTP/2, and bodies as PowerShell makes."""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.loopback import listening

PROGRAM = Path(__file__).parents[2] / "support" / "java" / "Ask.java"

pytestmark = pytest.mark.slow


async def output_of(client: httpx.AsyncClient, *command: str) -> str:
    """What the command prints, with the server's address for URL in its arguments."""
    async with listening(client) as url:
        full = [part.replace("URL", url) for part in command]
        done = await asyncio.to_thread(
            subprocess.run, full, capture_output=True, text=True, check=False, timeout=120
        )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not shutil.which("javac"), reason="needs a JDK: javac is not on the path")
async def test_java(client: httpx.AsyncClient) -> None:
    """Its client asks for HTTP/2 by default, with `Upgrade: h2c` in a request that has a body."""
    told = await output_of(client, "java", str(PROGRAM), "URL")
    lines = [line.split("\t") for line in told.splitlines()]
    found = {name: (int(status), start) for name, status, start in lines}
    assert len(found) == 2 * 25
    for version in ("HTTP_1_1", "HTTP_2"):
        assert found[f"{version} ready"][0] == 200
        assert found[f"{version} search"][1].startswith('{"query":"rot"')
        assert found[f"{version} words"][1].startswith('{"query":"ギター 🎸"')
        assert found[f"{version} broken"][0] == 422
        assert found[f"{version} picture"][0] == 200
        for n in range(20):
            assert found[f"{version} many {n}"][1].startswith(f'{{"query":"q{n}"')


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.parametrize("flag", ["--http1.0", "--http1.1", "--http2"])
@pytest.mark.parametrize("length", [1, 20_000])
async def test_curl(client: httpx.AsyncClient, flag: str, length: int, tmp_path: Path) -> None:
    """`--http2` sends `Upgrade: h2c`; a long body also `Expect: 100-continue`."""
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"query": "q" * length, "k": 1}))
    json_type = "Content-Type: application/json"
    answer = await output_of(
        client, "curl", "-sS", "--noproxy", "*", flag, "-H", json_type, "-d", f"@{body}",
        "URL/search",
    )  # fmt: skip
    assert json.loads(answer)["query"] == "q" * length


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
async def test_bodies_as_powershell_makes_them(client: httpx.AsyncClient, encoding: str) -> None:
    """Its `Out-File` and `Set-Content` begin a file with a byte-order mark, or write UTF-16."""
    body: dict[str, Any] = {"query": "größe 猫", "k": 1}
    content = json.dumps(body, ensure_ascii=False).encode(encoding)
    async with listening(client) as url, httpx.AsyncClient(base_url=url) as other:
        answer = await other.post(
            "/search", content=content, headers={"Content-Type": "application/json"}
        )
    assert answer.status_code == 200
    assert answer.json()["query"] == body["query"]
