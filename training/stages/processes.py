"""The processes of a run that `accelerate launch` started; otherwise there is only one."""

import os

from models.common.errors import InputError
from training.settings import TrainSettings


def processes() -> int:
    """How many processes share the run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process is the one that writes files and logs."""
    return os.environ.get("RANK", "0") == "0"


def passes_of(settings: TrainSettings, prompts: int) -> int:
    """Backward passes of each process in a step."""
    passes = prompts * settings.group_size // settings.micro_batch
    if passes % processes() or prompts % processes():
        raise InputError(
            f"{processes()} processes cannot share a step of {prompts} prompts and {passes} "
            "backward passes: change --prompts-per-step or lower --micro-batch."
        )
    return passes // processes()
