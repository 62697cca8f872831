"""A server under load, for :mod:`tools.gpu_check`."""

import asyncio
import re
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from models.demo.prepare import prepare_gallery
from tools.gpu_checks import GRAPE, WORDS, Sizes
from tools.random_models import write_llm

_READY_S = 240.0  # for which the server may load


def serving(sizes: Sizes, folder: Path) -> None:
    """A server, asked by more and more clients at once."""
    prepare_gallery()
    name = next(iter(sizes.llms))
    base = write_llm(folder / f"served-{name}", sizes.llms[name])
    log = folder / "serve.log"
    flags = ["--llm", base, "--adapter", "none", "--encoder-device", sizes.device, "--port", "0",
             "--llm-kv-cache-gib", "0.1", "--rewrite-cache", "0"]  # fmt: skip
    with open(log, "w") as output:
        server = subprocess.Popen([GRAPE, "serve", *map(str, flags)], stdout=output, stderr=output)
    try:
        asyncio.run(_serving(sizes, server, log))
    finally:
        server.terminate()
        server.wait(60)


async def _serving(sizes: Sizes, server: "subprocess.Popen[bytes]", log: Path) -> None:
    import httpx

    while not (found := re.search(r"http://[\d.]+:\d+", log.read_text())):
        assert server.poll() is None, log.read_text()[-500:]
        await asyncio.sleep(0.1)
    limits = httpx.Limits(max_connections=max(sizes.clients))
    print("| route | clients | answers/s | median | 99 % |")
    print("|---|---:|---:|---:|---:|")
    async with httpx.AsyncClient(base_url=found[0], timeout=120, limits=limits) as http:
        began = time.monotonic()
        while not (ready := await http.get("/readyz")).is_success:
            assert server.poll() is None, log.read_text()[-500:]
            assert time.monotonic() - began < _READY_S, ready.text
            await asyncio.sleep(0.5)
        for route, more in (("/search", {"rewrite": "never"}), ("/search", {"rewrite": "always"}),
                            ("/rewrite", {})):  # fmt: skip
            for clients in sizes.clients:
                times, took = await _load(_asking(http, route, more), clients, sizes.requests)
                times.sort()
                print(
                    f"| {route} {more.get('rewrite', '')} | {clients} | {len(times) / took:.1f} | "
                    f"{statistics.median(times) * 1000:.0f} ms | "
                    f"{times[int(len(times) * 0.99)] * 1000:.0f} ms |",
                    flush=True,
                )


def _asking(http: Any, route: str, more: dict[str, str]) -> Callable[[int], Awaitable[None]]:
    async def ask(number: int) -> None:
        word = WORDS[number % len(WORDS)]
        answer = await http.post(route, json={"query": f"{word} {number}", **more})
        answer.raise_for_status()

    return ask


async def _load(
    ask: Callable[[int], Awaitable[None]], clients: int, requests: int
) -> tuple[list[float], float]:
    numbers = iter(range(requests))
    times: list[float] = []

    async def client() -> None:
        for number in numbers:
            began = time.perf_counter()
            await ask(number)
            times.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return times, time.perf_counter() - began
