"""Clients that each wait for their answer, how long it took them, and what processes take."""

import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple, TypeVar

import aiohttp
import numpy as np
import psutil

from tests.support.grape_server import Server

Result = TypeVar("Result")


class Load(NamedTuple):
    """Seconds of each answer, and of the whole run."""

    latencies: list[float]
    seconds: float

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds

    def percentile_ms(self, percent: float) -> float:
        return float(np.percentile(self.latencies, percent)) * 1000


async def closed_loop(
    ask: Callable[[str], Awaitable[object]], texts: Sequence[str], clients: int
) -> Load:
    """Every client sends a text, waits for the answer, and takes the next one from the list."""
    waiting = iter(texts)
    latencies: list[float] = []

    async def client() -> None:
        for text in waiting:
            started = time.perf_counter()
            await ask(text)
            latencies.append(time.perf_counter() - started)

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return Load(latencies, time.perf_counter() - started)


async def served(
    server: Server, path: str, texts: Sequence[str], clients: int, body: Mapping[str, object]
) -> Load:
    """The same by HTTP, after a warm-up. No query may fall back to what was typed."""
    connector = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(server.url, connector=connector) as session:

        async def ask(text: str) -> None:
            async with session.post(path, json={"query": text, **body}) as response:
                assert response.status == 200, await response.text()
                assert b'"fallback"' not in await response.read()

        await closed_loop(ask, texts[: 4 * clients], clients)  # warm-up
        return await closed_loop(ask, texts, clients)


def in_own_process(call: Callable[..., Result], *given: Any) -> Result:
    """So that time and memory are what this one part takes."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(call, *given).result()


def family(server: Server) -> list[psutil.Process]:
    """The server's process, and those that it started."""
    return [psutil.Process(server.process.pid), *server.children()]


def processor_seconds(server: Server) -> float:
    """That the server and its engine have used so far."""
    times = [process.cpu_times() for process in family(server)]
    return sum(time.user + time.system for time in times)


def resident_gib(processes: Sequence[psutil.Process]) -> float:
    """With pages that they share counted once."""
    return sum(float(process.memory_full_info().pss) for process in processes) / 2**30
