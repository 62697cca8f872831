"""The processes of a run that `accelerate launch` started; otherwise there is only one."""

import os


def processes() -> int:
    """How many processes share the run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process is the one that writes files and logs."""
    return os.environ.get("RANK", "0") == "0"
