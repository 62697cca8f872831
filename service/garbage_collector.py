"""Shorter pauses of the garbage collector in a long-running process."""

import ctypes
import gc


def keep_what_is_loaded() -> None:
    """Excludes modules, weights and settings from garbage collection, because they stay loaded.

    A full collection over the objects of torch and vLLM pauses every request for as long as several
    searches take.
    """
    gc.unfreeze()  # what was kept before may have become garbage
    gc.collect()
    gc.freeze()


def give_back_memory() -> None:
    """Frees what an engine's start or death has left behind, and returns it to the system.

    It looks only at objects that are not kept, which are few. glibc keeps freed memory by itself:
    half a gigabyte of it after a start.
    """
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc alone has it
        trim(0)
