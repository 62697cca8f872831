"""What a long-running process does not look through for garbage."""

import gc


def keep_what_is_loaded() -> None:
    """Takes modules, weights and settings out of the garbage collector's rounds.

    They stay until the end. A round through torch's and vLLM's objects stops every request for as
    long as several searches take.
    """
    gc.unfreeze()  # what an engine that died has left can go
    gc.collect()
    gc.freeze()
