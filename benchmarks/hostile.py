"""Hostile pictures against a server under light load: how long do others wait, and who dies?

    python -m benchmarks.hostile [--write]

Makes a corpus of pictures by script: drawings with filters, depth, entities,
patterns and nested uses; bombs of every raster format; extreme shapes; truncations. Two clients
send them to a server without rewriting, while a third one searches for plain English words. The
table has the longest that an ordinary search and `/livez` waited, with and without the pictures,
the most memory, what of it did not return, and deaths. ``--write`` puts it into
docs/reliability.md.
"""

import argparse
import asyncio
import base64
import contextlib
import io
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import aiohttp
import numpy as np
import psutil
from PIL import Image

from benchmarks.pages import DOCS, write_between
from tests.support.grape_server import Server

PAGE = DOCS / "reliability.md"
SECONDS_ALONE = 20
SENDERS = 2
WORDS = ("red apple", "a horse", "house", "guitar", "big grey animal", "a man with a beard")
_SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10">{}</svg>'
_RECT = "<rect width='10' height='10' {}/>"


class Hostile(NamedTuple):
    """One picture of the corpus."""

    kind: str
    data: bytes


def corpus() -> list[Hostile]:
    """At least 200 different pictures."""
    return [*_drawings(), *_bombs(), *_shapes(), *_truncations()]


def _drawings() -> Iterator[Hostile]:
    for power in range(3, 12):
        for kind in ("turbulence", "fractalNoise"):
            noise = f"<feTurbulence type='{kind}' baseFrequency='.05' numOctaves='{10**power}'/>"
            yield _svg(
                "filter", f"<filter id='f'>{noise}</filter>" + _RECT.format("filter='url(#f)'")
            )
        blur = f"<filter id='f'><feGaussianBlur stdDeviation='{10**power}'/></filter>"
        yield _svg("filter", blur + _RECT.format("filter='url(#f)'"))
        morph = f"<filter id='f'><feMorphology operator='dilate' radius='{10**power}'/></filter>"
        yield _svg("filter", morph + _RECT.format("filter='url(#f)'"))
    for depth in (50, 100, 250, 500, 1_000, 5_000, 20_000, 100_000):
        for tag in ("g", "svg", "switch"):
            yield _svg("depth", f"<{tag}>" * depth + f"</{tag}>" * depth)
    for width in range(2, 11):
        for height in (4, 8, 16):
            yield _svg("nested uses", _uses(width, height))
    for size in ("1e3", "1e5", "1e7", "1e9", "1e300"):
        for kind in ("pattern", "mask"):
            box = f"id='p' x='0' y='0' width='{size}' height='{size}'"
            units = f"{kind}Units='userSpaceOnUse'"
            inner = f"<{kind} {box} {units}><rect width='{size}' height='{size}'/></{kind}>"
            used = "fill='url(#p)'" if kind == "pattern" else "mask='url(#p)'"
            yield _svg(kind, inner + f"<rect width='{size}' height='{size}' {used}/>")
    for levels in range(2, 12):
        yield Hostile("entities", _entities(levels))


def _uses(width: int, height: int) -> str:
    """Groups that use the one before several times: width to the power of height rectangles."""
    groups = ["<g id='a0'><rect width='1' height='1'/></g>"]
    for level in range(1, height):
        groups.append(f"<g id='a{level}'>" + f"<use href='#a{level - 1}'/>" * width + "</g>")
    return f"<defs>{''.join(groups)}</defs><use href='#a{height - 1}'/>"


def _entities(levels: int) -> bytes:
    lines = ["<!ENTITY e0 'ha'>"]
    lines += [f"<!ENTITY e{n} '{f'&e{n - 1};' * 10}'>" for n in range(1, levels)]
    return f"<!DOCTYPE svg [{''.join(lines)}]>{_SVG.format(f'&e{levels - 1};')}".encode()


def _svg(kind: str, inner: str) -> Hostile:
    return Hostile(kind, _SVG.format(inner).encode())


def _bombs() -> Iterator[Hostile]:
    for side in (5_000, 7_000, 10_000, 30_000, 60_000):
        for colour, channels in ((0, 1), (2, 3), (6, 4)):
            yield Hostile("PNG bomb", png(side, side, colour, channels, whole=side <= 7_000))
    for side in (7_000, 16_000):
        for form in ("JPEG", "WEBP", "GIF", "TIFF"):
            yield Hostile(f"{form} bomb", _encoded(Image.new("L", (side, min(side, 16_000))), form))
    frames = [Image.new("P", (300, 300), n % 256) for n in range(800)]
    for form in ("GIF", "WEBP"):
        out = io.BytesIO()
        frames[0].save(out, form, save_all=True, append_images=frames[1:])
        yield Hostile(f"{form} bomb", out.getvalue())


def _shapes() -> Iterator[Hostile]:
    for long in (1_000, 10_000, 60_000, 100_000, 200_000, 2_000_000):
        for short in (1, 2, 3):
            for width, height in ((long, short), (short, long)):
                yield Hostile("shape", png(width, height, 0, 1))


def _truncations() -> Iterator[Hostile]:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8))
    for form in ("PNG", "JPEG", "WEBP", "GIF"):
        data = _encoded(noise, form)
        for cut in (1, 4, 10, 30, 100, 500, len(data) // 3, len(data) // 2, len(data) - 5):
            yield Hostile("truncation", data[:cut])


def _encoded(image: Image.Image, form: str) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **({"compression": "tiff_adobe_deflate"} if form == "TIFF" else {}))
    return out.getvalue()


def png(width: int, height: int, colour: int, channels: int, whole: bool = True) -> bytes:
    """A PNG of zeros; not ``whole``: only its head promises that many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    packer = zlib.compressobj(9)
    row = bytes(1 + width * channels)
    rows = b"".join(packer.compress(row) for _ in range(height if whole else 1)) + packer.flush()
    head = width.to_bytes(4) + height.to_bytes(4) + bytes([8, colour, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


class Waited(NamedTuple):
    """What a client saw: milliseconds for each answer, and the server's memory."""

    search: list[float]
    livez: list[float]
    memory: list[float]  # MiB of the server and its decoding processes together


async def light_load(
    session: aiohttp.ClientSession, process: psutil.Process, stop: asyncio.Event
) -> Waited:
    """Searches and asks `/livez`, ten times a second each, until it is stopped."""
    waited = Waited([], [], [])
    number = 0
    while not stop.is_set():
        body = {"query": WORDS[number % len(WORDS)], "rewrite": "never"}
        waited.search.append(await _timed(session.post("/search", json=body)))
        waited.livez.append(await _timed(session.get("/livez")))
        waited.memory.append(_memory(process))
        number += 1
        await asyncio.sleep(0.1)
    return waited


def _memory(server: psutil.Process) -> float:
    """MiB, with shared pages in each process: to tell them apart stops it for a moment."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):  # the server is dead
        for process in (server, *server.children(recursive=True)):
            with contextlib.suppress(psutil.Error):  # it has just ended
                total += process.memory_info().rss
    return total / 2**20


async def _timed(request: "aiohttp.client._RequestContextManager") -> float:
    began = time.perf_counter()
    async with request as response:
        await response.read()
        assert response.status == 200, await response.text()
    return (time.perf_counter() - began) * 1000


async def send_all(
    session: aiohttp.ClientSession, pictures: list[Hostile]
) -> tuple[Counter[str], float]:
    """How each kind was answered, and the slowest answer in seconds."""
    answers: Counter[str] = Counter()
    waiting, slowest = iter(pictures), 0.0

    async def send() -> None:
        nonlocal slowest
        for picture in waiting:
            began = time.perf_counter()
            body = {"image": base64.b64encode(picture.data).decode()}
            async with session.post("/search", json=body) as response:
                await response.read()
                answers[f"{response.status}"] += 1
                assert response.status in (200, 413, 422), (picture.kind, await response.text())
            slowest = max(slowest, time.perf_counter() - began)

    await asyncio.gather(*(send() for _ in range(SENDERS)))
    return answers, slowest


async def measure() -> list[str]:
    """The lines of the table."""
    pictures = corpus()
    server = Server(Path(tempfile.mkdtemp()) / "log", "--llm", "none")
    try:
        server.wait_for(lambda: server.client.get("/livez").is_success, 120)
        server.wait_for(lambda: server.client.post(
            "/search", json={"query": "cat", "rewrite": "never"}).is_success, 120)  # fmt: skip
        process = psutil.Process(server.process.pid)
        async with aiohttp.ClientSession(server.url) as session:
            stop = asyncio.Event()
            alone = asyncio.create_task(light_load(session, process, stop))
            await asyncio.sleep(SECONDS_ALONE)
            stop.set()
            before, memory = await alone, process.memory_info().rss
            stop = asyncio.Event()
            beside = asyncio.create_task(light_load(session, process, stop))
            answers, slowest = await send_all(session, pictures)
            stop.set()
            during = await beside
        gained = (process.memory_info().rss - memory) / 2**20
        deaths = int(server.process.poll() is not None)
    finally:
        server.stop()
    return _table(len(pictures), answers, slowest, (before, during), gained, deaths)


def _table(
    count: int,
    answers: Counter[str],
    slowest: float,
    waited: tuple[Waited, Waited],
    gained: float,
    deaths: int,
) -> list[str]:
    before, during = waited
    medians = [np.median(each.search) for each in waited]
    kinds = ", ".join(f"{number} x {status}" for status, number in sorted(answers.items()))
    return [
        "| | without them | with them |",
        "|---|---:|---:|",
        f"| worst search | {max(before.search):.0f} ms | {max(during.search):.0f} ms |",
        f"| median search | {medians[0]:.0f} ms | {medians[1]:.0f} ms |",
        f"| worst `/livez` | {max(before.livez):.0f} ms | {max(during.livez):.0f} ms |",
        f"| answers to {count} hostile pictures | | {kinds} |",
        f"| slowest of these answers | | {slowest:.1f} s |",
        f"| most memory, with the decoding processes | {max(before.memory):.0f} MiB | "
        f"{max(during.memory):.0f} MiB |",
        f"| memory of the server that did not return | | {gained:.0f} MiB |",
        f"| deaths of the server | | {deaths} |",
    ]


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    arguments = parser.parse_args()
    lines = asyncio.run(measure())
    print("\n".join(lines))
    if arguments.write:
        write_between(PAGE, "hostile", "\n".join(lines))


if __name__ == "__main__":
    main()
