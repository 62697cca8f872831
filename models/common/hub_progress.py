"""What is shown while the hub's library downloads."""

import importlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from models.common.progress import say

_GIB = 2**30
_PLAIN_EVERY_S = 5.0


def size(count: float) -> str:
    """Bytes for people."""
    return f"{count / _GIB:.1f} GiB" if count >= _GIB / 10 else f"{count / 2**20:.1f} MiB"


@contextmanager
def quiet() -> Iterator[None]:
    """Without the library's own warnings, such as that there is no token."""
    logging: Any = importlib.import_module("huggingface_hub.utils.logging")

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def silent_bar() -> Any:
    """The library's bar without anything drawn."""
    tqdm: Any = importlib.import_module("tqdm.auto").tqdm

    class Silent(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})

    return Silent


def byte_bar(total: int) -> Any:
    """The library's bar on a terminal; elsewhere a plain line from time to time."""
    if sys.stderr.isatty():
        return None

    class PlainLines(silent_bar()):  # type: ignore[misc]
        received = 0
        said = time.monotonic()

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # Another bar counts files, and one the bytes that are written to the disk.
            written = str(kwargs.get("desc")).startswith("Reconstruct")
            self._transfers = kwargs.get("unit") == "B" and not written
            super().__init__(*args, **kwargs)

        def update(self, n: float | None = 1) -> bool | None:
            cls = type(self)
            if self._transfers:
                cls.received += int(n or 0)
                if time.monotonic() - cls.said > _PLAIN_EVERY_S:
                    cls.said = time.monotonic()
                    say(f"Fetching: {size(cls.received)} of {size(total)}")
            return None

    return PlainLines
