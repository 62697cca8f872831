"""`grape search` and `grape rewrite` with --url, over the application."""

import asyncio
import json

import httpx

from tests.service.test_commands import grape
from tests.support.loopback import listening

GERMAN = "ein rotes Bild"


async def test_the_shell_asks_through_it(client: httpx.AsyncClient) -> None:
    async with listening(client) as url:
        shown, found, rewritten, listed, refused = [
            await asyncio.to_thread(grape, *arguments, "--url", url)
            for arguments in (
                ("search", "red", "-k", "2", "--json", "--rewrite", "never"),
                ("search", GERMAN, "-k", "1"),
                ("rewrite", GERMAN),
                ("rewrite", GERMAN, "-n", "auto", "--json"),
                ("search", "x" * 40_000),
            )
        ]
    assert len(json.loads(shown.stdout)["hits"]) == 2
    heading, hit = (line.split("\t") for line in found.stdout.splitlines())
    assert heading == ["rank", "score", "id", "file", "found by"]
    assert hit[4] == "a red square"  # not "rewrite 1"
    assert rewritten.stdout == "a red square\n"
    (rewrite,) = json.loads(listed.stdout)["rewrites"]
    assert (rewrite["text"], rewrite["probability"]) == ("a red square", None)
    assert refused.returncode == 2
    assert refused.stderr == "grape search: query: 40,000 characters are more than 32,000.\n"
