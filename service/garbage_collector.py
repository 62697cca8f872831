"""Shorter pauses of the garbage collector in a long-running process."""

import gc


def keep_what_is_loaded() -> None:
    """Excludes modules, weights and settings from garbage collection, because they stay loaded.

    A full collection over the objects of torch and vLLM pauses every request for as long as several
    searches take.
    """
    gc.unfreeze()  # so that the leftovers of a dead engine are collected
    gc.collect()
    gc.freeze()
