"""Checkpoints of a run that may have been killed at any moment."""

import json
from pathlib import Path

_STATE = "trainer_state.json"  # transformers writes it last


def last_checkpoint(folder: Path) -> str | None:
    """The newest complete checkpoint, or None."""
    complete = [path for path in folder.glob("checkpoint-*") if _is_complete(path)]
    newest = max(complete, key=lambda path: int(path.name.split("-")[1]), default=None)
    return str(newest) if newest else None


def _is_complete(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / _STATE).read_bytes())
    except (OSError, ValueError):
        return False
    return True
