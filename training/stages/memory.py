"""The memory of a process that makes and frees large temporaries all the time."""

import contextlib
import ctypes

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of mallopt(3)
_KEPT = 512 << 20  # bytes: more than any temporary, and the most that the heap keeps in reserve


def keep_freed_memory() -> None:
    """Lets glibc reuse what this process frees; elsewhere nothing changes.

    By default it gives every large block back to the system, which clears it page by page when it
    is asked for again. Thresholds of gigabytes would let a process keep many times what it needs.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_MMAP_THRESHOLD, _KEPT)
        libc.mallopt(_TRIM_THRESHOLD, _KEPT)
