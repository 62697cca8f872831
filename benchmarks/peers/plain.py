"""Plain FastAPI with open_clip and FAISS, with this project's own versions of all three."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from benchmarks.peers.programs import Asked, free_port, running
from benchmarks.peers.shared import K, Shared


@contextmanager
def served(shared: Shared) -> Iterator[Asked]:
    """The thirty lines of plain_app.py under uvicorn."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "uvicorn", "benchmarks.peers.plain_app:app"]
    env = {
        "PLAIN_MODEL": f"local-dir:{shared.weights.parent}",
        "PLAIN_INDEX": str(shared.faiss_file),
    }
    log = shared.folder / "plain.log"
    with running([*command, "--port", port], f"{url}/docs", log, env):
        yield Asked("plain", url, _ask)


async def _ask(session: aiohttp.ClientSession, text: str) -> list[str]:
    async with session.post("/search", json={"text": text, "k": K}) as response:
        response.raise_for_status()
        return [str(hit["id"]) for hit in await response.json()]
