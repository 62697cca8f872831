"""Untrusted pictures are decoded in processes of their own, which is all that they can hurt.

A tiny file may be a picture that takes minutes or terabytes to draw, or one that crashes the
library that draws it. A worker has a limit of processor time for each picture, and one of memory. A
picture that exceeds either ends its worker and is refused; the next one has a new worker.
"""

import asyncio
import atexit
import contextlib
import functools
import gc
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import TimeoutError as TooLate
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

from pebble import CONSTS, ProcessExpired, ProcessFuture, ProcessPool
from PIL import Image

from models.retriever.embedded import described
from models.retriever.pictures import (
    ENOUGH_PIXELS,
    MAX_PIXELS,
    PictureError,
    decode_picture,
    formats,
    read_file,
    read_picture,
    thumbnail_webp,
)
from models.retriever.types import Metadata

CPU_S = 1.5  # of a picture; the largest allowed photo takes .5 s to 1 s
_WALL_S = 20.0  # if the machine is busy
_MEMORY = 2 * 2**30  # bytes; the largest allowed picture takes half of it
_WORKERS = 2
_RENEWED_AFTER = 1_000  # pictures, so that memory which a library loses comes back
_ATTEMPTS = 4  # at a picture, if workers are killed from outside
_PAUSE_S = 0.2  # between them
_LOCK_S = 2.0  # for which a worker may hold the pool's lock; sending pixels takes some milliseconds
_AHEAD = 8  # pictures that are decoded before they are asked for

Given = ParamSpec("Given")
Result = TypeVar("Result")

DESCRIBED = "described"  # in an image's ``info``: what its file says about it


class Pixels(NamedTuple):
    """An image on its way from a worker."""

    size: tuple[int, int]  # width and height
    rgb: bytes
    described: Metadata


async def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decodes an image to RGB and scales it down if it is large. Cancelling it ends the worker.

    Raises:
        PictureError: see :func:`models.retriever.pictures.decode_picture`; also if it takes too
            much time or memory.
    """
    with _refusing():
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return _image(await asyncio.wrap_future(_started(_decoded, data, max_pixels)))
            except (BrokenProcessPool, ProcessExpired) as error:
                _raise_unless_killed(error, attempt)
                await asyncio.sleep(_PAUSE_S)
    raise AssertionError("the last attempt returns or raises")


def thumbnail(source: Path | bytes, size: int) -> bytes:
    """An image scaled down to fit a square of ``size`` pixels, as WebP.

    Args:
        source: its file, or the content of one.

    Raises:
        PictureError: see :func:`decode`.
        OSError: the file cannot be read.
    """
    return _result(_started(_thumbnail, source, size), lambda: _started(_thumbnail, source, size))


def read_all(
    sources: Iterable[Path | bytes], enough: int = ENOUGH_PIXELS
) -> Iterator[Image.Image | PictureError | OSError]:
    """The images in these files, or of these contents, in this order, scaled down if large.

    Args:
        enough: pixels that their shorter sides keep at least.

    Yields:
        the image, with what its file says about it in its ``info``; or why it could not be read.
    """
    waiting: deque[tuple[Path | bytes, ProcessFuture[Pixels]]] = deque()
    for source in sources:
        if isinstance(source, Path):
            source = source.absolute()  # a worker keeps the working directory that it began with
        waiting.append((source, _started(_read, source, enough)))
        if len(waiting) > _AHEAD:
            yield _image_or_error(*waiting.popleft(), enough)
    while waiting:
        yield _image_or_error(*waiting.popleft(), enough)


def warm_up() -> None:
    """Starts the workers in the background, so that the first picture need not wait for them."""
    _started(os.getpid)


def close() -> None:
    """Ends the workers. A process that skips ``atexit`` calls it before it ends."""
    with _lock:
        pool = _pools.pop(os.getpid(), None)
    if pool is not None:
        pool.stop()
        pool.join()
        del pool
        gc.collect()  # its semaphores are unlinked with it, or reported as leaked


def _image_or_error(
    source: Path | bytes, future: ProcessFuture[Pixels], enough: int
) -> Image.Image | PictureError | OSError:
    try:
        return _image(_result(future, lambda: _started(_read, source, enough)))
    except (PictureError, OSError) as error:
        return error


def _started(
    function: Callable[Given, Result], *given: Given.args, **named: Given.kwargs
) -> "ProcessFuture[Result]":
    limited = functools.partial(_within_limits, function)
    try:
        future: ProcessFuture[Result] = _pool().schedule(limited, given, named, _WALL_S)
    except RuntimeError:  # the pool has broken in between
        future = _pool().schedule(limited, given, named, _WALL_S)
    return future


def _result(
    future: "ProcessFuture[Result]", again: Callable[[], "ProcessFuture[Result]"]
) -> Result:
    with _refusing():
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return future.result()
            except (BrokenProcessPool, ProcessExpired) as error:
                _raise_unless_killed(error, attempt)
                time.sleep(_PAUSE_S)
                future = again()
    raise AssertionError("the last attempt returns or raises")


def _raise_unless_killed(error: BrokenProcessPool | ProcessExpired, attempt: int) -> None:
    """A worker that somebody killed says nothing about its picture, which is tried again.

    Nor does one that gave up (a positive exit code), because the killed one held the pool's lock.
    """
    code = error.exitcode if isinstance(error, ProcessExpired) else 0
    if (code < 0 and code != -signal.SIGKILL) or attempt == _ATTEMPTS:
        raise error


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except (TooLate, ProcessExpired, BrokenProcessPool, MemoryError) as error:
        raise PictureError("it takes too much time or memory to decode") from error


_lock = threading.Lock()
_pools: dict[int, ProcessPool] = {}  # by the process that it belongs to


def _pool() -> ProcessPool:
    with _lock:
        pool = _pools.get(os.getpid())
        if pool is None or not pool.active:
            # Whoever kills an idle worker, or one that holds the pool's lock, breaks the pool.
            CONSTS.channel_lock_timeout = _LOCK_S
            pool = ProcessPool(
                _WORKERS,
                _RENEWED_AFTER,
                initializer=_confine,
                initargs=(os.getpid(),),
                # A fork would copy the locks of our threads.
                context=multiprocessing.get_context("spawn"),
            )
            _pools[os.getpid()] = pool
            atexit.register(close)
    return pool


# What follows runs in a worker.


def _confine(parent: int) -> None:
    import resvg_py  # noqa: F401  # before the limit, which counts what a library reserves

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the parent
    CONSTS.channel_lock_timeout = _LOCK_S
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with open("/proc/self/statm") as sizes:
        reserved = int(sizes.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (reserved + _MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is no news


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _within_limits(
    function: Callable[Given, Result], *given: Given.args, **named: Given.kwargs
) -> Result:
    # The signal ends the process, also while a library holds Python's lock.
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    try:
        return function(*given, **named)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _decoded(data: bytes, max_pixels: int, enough: int = ENOUGH_PIXELS) -> Pixels:
    with warnings.catch_warnings(action="ignore"):  # whoever sent it does not see them
        return _pixels(decode_picture(data, max_pixels=max_pixels, enough=enough))


def _read(source: Path | bytes, enough: int) -> Pixels:
    if isinstance(source, bytes):
        return _decoded(source, MAX_PIXELS, enough)._replace(described=described(source, formats()))
    data = read_file(source)
    with _warnings_name(source):
        pixels = _pixels(decode_picture(data, enough=enough))
    return pixels._replace(described=described(data, formats()))


def _thumbnail(source: Path | bytes, size: int) -> bytes:
    if isinstance(source, bytes):
        with warnings.catch_warnings(action="ignore"):
            return thumbnail_webp(decode_picture(source, svg_pixels=size), size)
    with _warnings_name(source):
        return thumbnail_webp(read_picture(source, svg_pixels=size), size)


@contextlib.contextmanager
def _warnings_name(path: Path) -> Iterator[None]:
    """Pillow's warnings name the picture, instead of the line of Pillow's that warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")

        def show(message: Warning | str, *_: object, **__: object) -> None:
            print(f"{ascii(path.name)[1:-1]}: {' '.join(str(message).split())}", file=sys.stderr)

        warnings.showwarning = show
        yield


def _pixels(image: Image.Image) -> Pixels:
    return Pixels(image.size, image.tobytes(), {})


def _image(pixels: Pixels) -> Image.Image:
    image = Image.frombytes("RGB", pixels.size, pixels.rgb)
    image.info[DESCRIBED] = pixels.described
    return image
