"""Scores of candidates by a language model, kept in a file as they arrive."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from models.common.progress import track
from models.rewriter.protocol import Rewriter
from models.rewriter.tasks import RERANK_TASKS
from models.search.compare import Tasks, compared
from models.search.rerank import Comparison


class Scores(NamedTuple):
    """What the model said of one comparison."""

    values: list[float | None]  # one for each text
    seconds: float  # of the engine, with nothing else to do


async def score_candidates(
    start: Callable[[], Rewriter],
    asked: Sequence[Comparison],
    path: Path,
    tasks: Tasks = RERANK_TASKS,
) -> list[Scores]:
    """The scores of each comparison; those that are in the file are read from it.

    Args:
        start: gives the rewriter, which stays open; called only if something is left to do.
        path: JSON lines.
        tasks: with the prompts that the model was trained on.
    """
    done = _read(path)
    keys = [_key(one, tasks) for one in asked]
    left = [one for one in dict.fromkeys(keys) if one not in done]
    if left:
        by_key = dict(zip(keys, asked, strict=True))
        rewriter = start()
        # The first one computes the beginning that all prompts share.
        await compared(rewriter, by_key[left[0]], tasks)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            if file.tell():
                file.write("\n")  # the last line may be incomplete
            for key in track(left, "Scoring candidates"):
                began = time.monotonic()
                values = await compared(rewriter, by_key[key], tasks)
                done[key] = Scores(values, round(time.monotonic() - began, 4))
                file.write(json.dumps([key, *done[key]]) + "\n")
                file.flush()
    return [done[key] for key in keys]


def _key(asked: Comparison, tasks: Tasks) -> str:
    parts = [tasks[asked.task].hash, asked]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _read(path: Path) -> dict[str, Scores]:
    done = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                key, values, seconds = json.loads(line)
            except ValueError:
                continue  # an incomplete line
            done[key] = Scores(values, seconds)
    return done
