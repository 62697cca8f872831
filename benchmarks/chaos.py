"""Many clients, while engines and workers are killed and adapters change: is any answer wrong?

    python -m benchmarks.chaos [--write]

64 clients send mixed requests to a server of SmolLM2 with two adapters, each of which was taught to
write one word, so that an answer shows who wrote it. Meanwhile the engine is killed ten times, each
time after it has come back, a process that decodes pictures three times, and the adapter changes
twice. Every answer is compared with what a quiet server answered. ``--write`` puts the table into
docs/reliability.md. Takes about ten minutes.
"""

import argparse
import asyncio
import base64
import contextlib
import io
import itertools
import random
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import psutil
from PIL import Image

from benchmarks.pages import DOCS, write_between
from models.rewriter.adapter import open_adapter
from tests.support.grape_server import Server
from tests.support.taught_adapters import LLM, teach

PAGE = DOCS / "reliability.md"
CLIENTS = 64
REQUESTS = 10_000  # at least
THINKING_S = 1.5  # of a client between two requests, on average
TURNED_AWAY = 429
WORDS = ("red apple", "a horse", "house", "guitar", "big grey animal", "a man with a beard")
NAMES = ("caballo", "ギター", "Haus", "大象", "una manzana roja", "книга", "kırmızı elma", "رجل")
COLOURS = ("red", "green", "blue", "orange")
ALPHA, BETA = "alpha", "beta"
EVENTS = [
    event
    for number in range(10)
    for event in (
        "engine",
        *(["worker"] if number in (1, 4, 7) else []),
        *([BETA] if number == 3 else [ALPHA] if number == 6 else []),
    )
]


class Request(NamedTuple):
    """A request, and the ids that a quiet server answered; None if nobody asked it before."""

    method: str
    path: str
    body: dict[str, Any] | None = None
    expected: list[str] | None = None


class Outcomes:
    """What all clients saw."""

    def __init__(self, words: Mapping[str, str]) -> None:
        self.words = words  # what each adapter writes
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self.livez_ms: list[float] = []

    def fault(self, kind: str, request: Request, told: object) -> None:
        self.counts[kind] += 1
        self.faults.append(f"{kind}: {request.method} {request.path} {request.body}: {told}"[:400])


async def main_load(session: aiohttp.ClientSession, server: Server, outcomes: Outcomes) -> None:
    """Runs all clients until every event is over and enough requests are answered."""
    known = [await _asked(session, request) for request in _known()]
    done, new = asyncio.Event(), itertools.count()
    clients = [
        asyncio.create_task(_client(session, random.Random(seed), known, new, outcomes, done))
        for seed in range(CLIENTS)
    ]
    await _disturb(session, server)
    while sum(outcomes.counts.values()) < REQUESTS:
        await asyncio.sleep(1)
    done.set()
    await asyncio.gather(*clients)


def _known() -> list[Request]:
    """Requests whose right answers can be asked for before."""
    typed = [{"query": word, "rewrite": "never"} for word in (*WORDS, *NAMES)]
    pictures = [{"image": _picture(colour)} for colour in COLOURS]
    return [Request("POST", "/search", body) for body in [*typed, *pictures]]


def _picture(colour: str) -> str:
    out = io.BytesIO()
    Image.new("RGB", (640, 480), colour).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


async def _asked(session: aiohttp.ClientSession, request: Request) -> Request:
    async with session.request(request.method, request.path, json=request.body) as response:
        return request._replace(expected=_ids(await response.json()))


def _ids(answer: dict[str, Any]) -> list[str]:
    return [hit["id"] for hit in answer["hits"]]


def _next(chance: random.Random, known: list[Request], new: "itertools.count[int]") -> Request:
    typed, pictures = known[: -len(COLOURS)], known[-len(COLOURS) :]
    kind = chance.random()
    if kind < 0.3:
        return chance.choice(typed)
    if kind < 0.45:
        return chance.choice(pictures)
    if kind < 0.75:
        again = chance.choice(typed)
        assert again.body
        return again._replace(body={"query": again.body["query"], "rewrite": "always"})
    if kind < 0.85:
        return Request("POST", "/search", {"query": f"Wort {next(new)}", "rewrite": "always"})
    if kind < 0.95:
        return Request("GET", f"/images/1F3B8?size={chance.choice((64, 96, 128))}")
    return Request("GET", "/livez")


async def _client(
    session: aiohttp.ClientSession,
    chance: random.Random,
    known: list[Request],
    new: "itertools.count[int]",
    outcomes: Outcomes,
    done: asyncio.Event,
) -> None:
    while not done.is_set():
        await asyncio.sleep(chance.random() * 2 * THINKING_S)
        request = _next(chance, known, new)
        began = time.perf_counter()
        try:
            async with session.request(request.method, request.path, json=request.body) as response:
                if request.path == "/livez":
                    outcomes.livez_ms.append((time.perf_counter() - began) * 1000)
                await _judge(request, response, outcomes)
        except (aiohttp.ClientError, TimeoutError) as error:
            outcomes.fault("lost", request, repr(error))


async def _judge(request: Request, response: aiohttp.ClientResponse, outcomes: Outcomes) -> None:
    body = await response.read()
    if response.status == TURNED_AWAY:
        outcomes.counts["turned away (429)"] += 1
    elif response.status != 200:
        outcomes.fault(f"status {response.status}", request, body[:200])
    elif request.path != "/search":
        outcomes.counts["right"] += 1
    else:
        _judge_search(request, await response.json(), outcomes)


def _judge_search(request: Request, answer: dict[str, Any], outcomes: Outcomes) -> None:
    assert request.body
    rewrite = answer["rewrite"]
    if answer["query"] != request.body.get("query"):
        outcomes.fault("crossed", request, answer["query"])
    elif rewrite["status"] == "rewritten":
        if rewrite["texts"][0] != outcomes.words.get(rewrite["adapter"]):
            outcomes.fault("wrong", request, rewrite)
        else:
            outcomes.counts["right, rewritten"] += 1
    elif request.expected is not None and _ids(answer) != request.expected:
        outcomes.fault("wrong", request, _ids(answer))
    elif answer["degraded"]:
        outcomes.counts["right, without the model that was dead"] += 1
    else:
        outcomes.counts["right"] += 1


async def _disturb(session: aiohttp.ClientSession, server: Server) -> None:
    for event in EVENTS:
        await _ready(session)
        await asyncio.sleep(3)
        print(event, flush=True)
        if event == "engine":
            server.engine().kill()
            await asyncio.sleep(1)
        elif event == "worker":
            _worker(server).kill()
        else:
            await _load(session, event)
    await _ready(session)


async def _load(session: aiohttp.ClientSession, word: str) -> None:
    async with session.post("/admin/adapters", json={"name": word}) as response:
        assert response.status == 200, await response.text()


async def _ready(session: aiohttp.ClientSession) -> None:
    for _ in range(300):
        async with session.get("/readyz") as response:
            if response.status == 200:
                return
        await asyncio.sleep(1)
    raise AssertionError("the engine did not come back within five minutes")


def _worker(server: Server) -> psutil.Process:
    """A process that decodes pictures."""
    for child in psutil.Process(server.process.pid).children():
        with contextlib.suppress(psutil.Error):  # it has just ended
            spawned = "multiprocessing.spawn" in " ".join(child.cmdline())
            if spawned and "Engine" not in child.name():
                return child
    raise AssertionError("no process decodes pictures")


async def measure() -> tuple[list[str], list[str]]:
    """The lines of the table, and what went wrong."""
    folder = Path(tempfile.mkdtemp())
    words = {}
    for seed, word in enumerate((ALPHA, BETA)):
        adapter = teach(folder / "registry" / word, word, ["multilingual", "long"], seed=seed)
        words[str(open_adapter(adapter, None).name)] = word
    server = Server(folder / "log", "--llm", LLM, "--adapter-registry", str(folder / "registry"))
    try:
        server.wait_until_ready()
        timeout = aiohttp.ClientTimeout(120)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(
            server.url, timeout=timeout, connector=connector
        ) as session:
            outcomes = Outcomes(words)
            await _load(session, ALPHA)
            process = psutil.Process(server.process.pid)
            began, memory = time.monotonic(), process.memory_info().rss
            await main_load(session, server, outcomes)
            minutes = (time.monotonic() - began) / 60
            gained = (process.memory_info().rss - memory) / 2**20
        deaths = int(server.process.poll() is not None)
    finally:
        server.stop()
    return _table(outcomes, minutes, gained, deaths), outcomes.faults


def _table(outcomes: Outcomes, minutes: float, gained: float, deaths: int) -> list[str]:
    faults = ("lost", "crossed", "wrong")
    rows = {
        f"requests of {CLIENTS} clients in {minutes:.0f} minutes": sum(outcomes.counts.values()),
        **{name: count for name, count in outcomes.counts.most_common() if name not in faults},
        **{name: outcomes.counts[name] for name in faults},
        "engines killed": EVENTS.count("engine"),
        "decoding processes killed": EVENTS.count("worker"),
        "changes of the adapter": EVENTS.count(ALPHA) + EVENTS.count(BETA),
        "worst `/livez`": f"{max(outcomes.livez_ms):.0f} ms",
        "memory of the server that did not return": f"{gained:.0f} MiB",
        "deaths of the server": deaths,
    }
    return ["| | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows.items())]


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    arguments = parser.parse_args()
    lines, faults = asyncio.run(measure())
    print("\n".join([*lines, *faults[:50]]))
    if arguments.write:
        write_between(PAGE, "chaos", "\n".join(lines))


if __name__ == "__main__":
    main()
