"""What the tools that try Docker print: to the terminal, and into docs/deploy.md if wished."""

import contextlib
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from tests.docker.engine import ROOT, Engine, engine

lines: list[str] = []


def say(line: str) -> None:
    lines.append(line)
    print(line, flush=True)


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - started:.0f} s")


def run(name: str, tried: Callable[[Engine, Path], None]) -> None:
    """Runs it with an engine, in a folder that is removed; its lines may go into the docs."""
    work = Path(tempfile.mkdtemp(prefix="grape-docker-"))
    say(f"make {name}, {datetime.now(UTC):%Y-%m-%d}")
    try:
        with engine(work) as docker, timed("all of it"):
            tried(docker, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if "--write" in sys.argv:
        page = ROOT / "docs" / "deploy.md"
        shown = f"<!-- {name} -->\n```\n" + "\n".join(lines) + f"\n```\n<!-- /{name} -->"
        text = re.sub(f"<!-- {name} -->.*<!-- /{name} -->", lambda _: shown,
                      page.read_text(), flags=re.S)  # fmt: skip
        page.write_text(text)
