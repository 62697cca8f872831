"""Feedback on hits, appended to files of a folder. Off unless `--feedback` names one."""

import asyncio
import os
import time
from pathlib import Path

from cachetools import LRUCache

from models.client.marks import Mark, files_of, name_of
from models.client.wire import ErrorType
from models.common.errors import InputError
from service.errors import ApiError

ROTATED_AT = 16 * 2**20  # bytes of a file
MOST = 2**30  # bytes of all files
PER_SECOND = 20.0  # marks
BURST = 200.0
_REMEMBERED = 10_000  # searches, of which a mark may name the request


class Feedback:
    """Writes marks, and knows the queries of the latest searches.

    A mark is on the disk before it is answered. A crash loses the last line at most.
    """

    def __init__(self, folder: Path) -> None:
        """Opens the folder, which is made if need be.

        Raises:
            InputError: it cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            files = files_of(folder)
            self._bytes = sum(path.stat().st_size for path in files)
        except OSError as error:
            raise InputError(f"--feedback {folder} cannot be used ({error.strerror}).") from error
        if not os.access(folder, os.W_OK):
            raise InputError(f"--feedback {folder} cannot be written.")
        self._folder = folder
        self._number = int(files[-1].stem.rpartition("-")[2]) if files else 1
        self._lock = asyncio.Lock()
        self._queries: LRUCache[str, str] = LRUCache(_REMEMBERED)
        self._left, self._filled = BURST, time.monotonic()

    def remember(self, request_id: str, query: str | None) -> None:
        """Keeps what was searched for, so that a mark may name the request alone."""
        if query:
            self._queries[request_id] = query

    def query_of(self, request_id: str) -> str | None:
        """What a request searched for; None if it was long ago, or asked several queries."""
        return self._queries.get(request_id)

    async def add(self, mark: Mark) -> None:
        """Writes a mark.

        Raises:
            ApiError: too many marks, a full folder, or a disk that takes none.
        """
        self._take_turn()
        line = mark.model_dump_json(exclude_none=True).encode() + b"\n"
        async with self._lock:
            if self._bytes + len(line) > MOST:  # files may have been deleted
                self._bytes = sum(path.stat().st_size for path in files_of(self._folder))
            if self._bytes + len(line) > MOST:
                raise _unavailable(f"its folder holds {MOST >> 30} GiB")
            try:
                await asyncio.to_thread(self._append, line)
            except OSError as error:
                raise _unavailable(error.strerror or "the disk refuses it") from error
            self._bytes += len(line)

    def _take_turn(self) -> None:
        now = time.monotonic()
        self._left = min(BURST, self._left + (now - self._filled) * PER_SECOND)
        self._filled = now
        if self._left < 1:
            sentence = "Too much feedback at a time; try again in a second."
            raise ApiError(429, ErrorType.OVERLOADED, sentence, {"Retry-After": "1"})
        self._left -= 1

    def _append(self, line: bytes) -> None:
        path = self._folder / name_of(self._number)
        if path.exists() and path.stat().st_size + len(line) > ROTATED_AT:
            self._number += 1
            path = self._folder / name_of(self._number)
        # One write at the end of the file: servers that share the folder do not mix their lines.
        with open(path, "a+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":  # a crash, or a full disk, left half a line
                    line = b"\n" + line
            written = file.write(line)
            if written != len(line):
                raise OSError(None, "the disk is full")
            os.fsync(file.fileno())


def _unavailable(why: str) -> ApiError:
    return ApiError(503, ErrorType.UNAVAILABLE, f"The feedback was not kept: {why}.")
