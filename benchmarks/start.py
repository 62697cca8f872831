"""How long the demo takes to its first answers, and its memory, beside its parts alone.

    python -m benchmarks.start

The engine alone is vLLM with the merged adapter until its first rewrite, and the encoder alone a
process with its index that has answered one query. Everything was started once before.
"""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil

from benchmarks.load import family, in_own_process, resident_gib
from models.common import paths
from tests.support.grape_server import Server

ROUNDS = 3
QUERY = "Wolkenkratzer"


class Started(NamedTuple):
    """Seconds to the first answers, and GiB of all processes after them."""

    as_typed_s: float
    rewritten_s: float
    gib: float


class Alone(NamedTuple):
    """The same of one part."""

    seconds: float
    gib: float


def demo() -> Started:
    """`grape serve` with its defaults."""
    began = time.monotonic()
    server = Server(Path(tempfile.mkdtemp()) / "log")
    try:
        server.wait_for(lambda: _found(server, "never") is not None, 60)
        typed = time.monotonic() - began
        server.wait_for(lambda: _found(server, "always") == "rewritten", 240)
        return Started(typed, time.monotonic() - began, resident_gib(family(server)))
    finally:
        server.stop()


def _found(server: Server, rewrite: str) -> str | None:
    """The status of the answer; None without one."""
    try:
        answer = server.client.post("/search", json={"query": QUERY, "rewrite": rewrite})
    except httpx.TransportError:
        return None
    return str(answer.json()["rewrite"]["status"]) if answer.is_success else None


def engine() -> Alone:
    """vLLM alone, imports included."""
    return asyncio.run(_engine())


async def _engine() -> Alone:
    began = time.monotonic()
    from models.rewriter.adapter import open_adapter
    from models.rewriter.base_model import checkpoint_revision
    from models.rewriter.protocol import Prompt, Sampling
    from models.rewriter.vllm import VLLMOptions, VLLMRewriter

    base = paths.checkpoint_dir(paths.DEFAULT_LLM)
    adapter = open_adapter(paths.ADAPTER, checkpoint_revision(base))
    rewriter = VLLMRewriter(VLLMOptions(str(base)), adapter, paths.merged_dir())
    await rewriter.complete(Prompt(adapter.tasks["multilingual"], QUERY), Sampling())
    alone = Alone(time.monotonic() - began, _own_gib())
    await rewriter.close()
    return alone


def encoder() -> Alone:
    """Encoder and index alone, imports included."""
    began = time.monotonic()
    from models.retriever.open import EncoderOptions, open_index

    opened, index = open_index(None, EncoderOptions())
    index.score(opened.encode_texts([QUERY]))
    return Alone(time.monotonic() - began, _own_gib())


def _own_gib() -> float:
    own = psutil.Process()
    return resident_gib([own, *own.children(recursive=True)])


class Starts(NamedTuple):
    """The fastest of a few starts of each."""

    demo: Started
    engine: Alone
    encoder: Alone


def measure() -> Starts:
    """In turns."""
    rounds = [(demo(), in_own_process(engine), in_own_process(encoder)) for _ in range(ROUNDS)]
    demos, engines, encoders = zip(*rounds, strict=True)
    return Starts(
        Started(*map(min, zip(*demos, strict=True))),
        Alone(*map(min, zip(*engines, strict=True))),
        Alone(*map(min, zip(*encoders, strict=True))),
    )


if __name__ == "__main__":
    print(*measure(), sep="\n")
