"""Progress of long work: a bar with the remaining time on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from models.common.text_output import harmless_lines

Item = TypeVar("Item")

_PLAIN_EVERY_S = 5.0


def say(line: str) -> None:
    """Prints a line for the person who waits, on stderr so that output can be piped."""
    print(harmless_lines(line), file=sys.stderr, flush=True)


def track(items: Iterable[Item], label: str, total: int | None = None) -> Iterator[Item]:
    """Passes items through and shows the progress; of what has no length, how many there were."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        yield from _with_bar(items, label, total)
    else:
        yield from _with_lines(items, label, total)


def _with_bar(items: Iterable[Item], label: str, total: int | None) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import Progress

    columns = Progress.get_default_columns()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield from progress.track(items, total=total, description=label)


def _with_lines(items: Iterable[Item], label: str, total: int | None) -> Iterator[Item]:
    started = said = time.monotonic()
    done = 0
    for item in items:
        now = time.monotonic()
        if now - said > _PLAIN_EVERY_S:
            said = now
            say(f"{label}: {_so_far(done, total, now - started)}")
        yield item
        done += 1
    say(f"{label}: {done} done in {time.monotonic() - started:.0f} s")


def _so_far(done: int, total: int | None, seconds: float) -> str:
    if total is None:
        return f"{done} so far"
    left = seconds / max(done, 1) * (total - done)
    return f"{done} of {total}, about {left:.0f} s left"
