"""Programs that are started, asked or timed, and ended."""

import os
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import aiohttp
import httpx
import psutil

from benchmarks.load import Load, closed_loop
from benchmarks.peers.environments import TOLD, PeerError

STARTS_WITHIN_S = 300
ENDS_WITHIN_S = 20
# Nobody is told that it runs, and nothing is fetched.
ALONE = {
    "DO_NOT_TRACK": "1",
    "INFINITY_ANONYMOUS_USAGE_STATS": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "WANDB_MODE": "disabled",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
}

Ask = Callable[[aiohttp.ClientSession, str], Awaitable[list[str]]]


class Asked(NamedTuple):
    """A running server, and how it is asked for the nearest pictures of a text."""

    name: str
    url: str
    ask: Ask

    async def answers(self, texts: Sequence[str]) -> list[list[str]]:
        """One after the other."""
        async with aiohttp.ClientSession(self.url) as session:
            return [await self.ask(session, text) for text in texts]

    async def load(self, warm_up: Sequence[str], texts: Sequence[str], clients: int) -> Load:
        """The times of the second list of texts."""
        connector = aiohttp.TCPConnector(limit=clients)
        async with aiohttp.ClientSession(self.url, connector=connector) as session:

            async def ask(text: str) -> object:
                return await self.ask(session, text)

            await closed_loop(ask, warm_up, clients)
            return await closed_loop(ask, texts, clients)


def free_port() -> int:
    """A port of the loopback address that nothing listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
    return port


@contextmanager
def running(
    command: Sequence[object], ready_at: str, log: Path, env: Mapping[str, str] | None = None
) -> Iterator[None]:
    """A server, until the block ends. Begins when ``ready_at`` answers.

    Raises:
        PeerError: it does not start.
    """
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(part) for part in command], stdout=output, stderr=subprocess.STDOUT,
            env=_environment(env),
        )  # fmt: skip
    try:
        deadline = time.monotonic() + STARTS_WITHIN_S
        while not _answers(ready_at):
            if process.poll() is not None or time.monotonic() > deadline:
                raise PeerError(f"{log.stem} did not start:\n{log.read_text()[-TOLD:]}")
            time.sleep(0.2)
        yield
    finally:
        _end(process)


def seconds_of(
    command: Sequence[object], env: Mapping[str, str] | None = None, folder: Path | None = None
) -> float:
    """How long a command takes from its start to its end.

    Raises:
        PeerError: it fails.
    """
    began = time.perf_counter()
    ran = subprocess.run(
        [str(part) for part in command], env=_environment(env), cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    if ran.returncode:
        raise PeerError(f"{command[0]} ended with {ran.returncode}:\n{ran.stdout[-TOLD:]}")
    return seconds


def _environment(env: Mapping[str, str] | None) -> dict[str, str]:
    return {**os.environ, **ALONE, **(env or {})}


def _answers(address: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(address, timeout=5).is_success
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """The server and what it has started."""
    family: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(ENDS_WITHIN_S)
    for left in family:
        with suppress(psutil.NoSuchProcess):
            left.kill()
    process.kill()
    process.wait()
