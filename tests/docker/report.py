"""The output of the Docker tests: on the terminal, and in docs/deploy.md with `--write`."""

import argparse
import contextlib
import re
import shutil
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


def run(name: str, test: Callable[[Engine, Path], None]) -> None:
    """Runs a test with an engine, in a folder that is removed afterwards."""
    parser = argparse.ArgumentParser(prog=f"make {name}")
    parser.add_argument("--write", action="store_true", help="put the output into docs/deploy.md")
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="grape-docker-"))
    say(f"make {name}, {datetime.now(UTC):%Y-%m-%d}")
    try:
        with engine(work) as docker, timed("everything"):
            test(docker, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if arguments.write:
        page = ROOT / "docs" / "deploy.md"
        shown = f"<!-- {name} -->\n```\n" + "\n".join(lines) + f"\n```\n<!-- /{name} -->"
        text = re.sub(f"<!-- {name} -->.*<!-- /{name} -->", lambda _: shown,
                      page.read_text(), flags=re.S)  # fmt: skip
        page.write_text(text)
