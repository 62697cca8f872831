"""Rewrites of training queries by the language model as it is, kept in a file as they come."""

import asyncio
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from models.common.progress import track
from models.rewriter.protocol import Prompt, Rewriter, Sampling
from models.rewriter.tasks import Task
from models.rewriter.vllm import VLLMOptions, VLLMRewriter
from training.data.rows import Row

_CHUNK = 64  # queries between two writes


class Samples(NamedTuple):
    """What the model wrote after one query's prompt, unparsed."""

    greedy: str
    drawn: tuple[str, ...]
    seconds: float = 0.0  # of the engine's time, with the rest of its chunk at once


NOTHING = Samples("", ())  # of a row that was never asked, and may still know its answer


class Engine:
    """vLLM as serving uses it, one model at a time; started only when something is left to ask."""

    def __init__(self) -> None:
        self._loop = asyncio.Runner()  # an engine belongs to the loop that it was started in
        self._model = ""
        self._rewriter: Rewriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._loop.close()

    def samples(
        self,
        model: str,
        tasks: Mapping[str, Task],
        rows: Sequence[Row],
        count: int,
        temperature: float,
        path: Path,
        minutes: float | None = None,
    ) -> dict[Row, Samples]:
        """:func:`sample_rewrites` of a checkpoint's folder, or of a name on the hub."""

        if self._model != model:
            self._stop()

        def start() -> Rewriter:
            if self._rewriter is None:
                self._rewriter = VLLMRewriter(VLLMOptions(model, max_num_seqs=128))
                self._model = model
            return self._rewriter

        return self._loop.run(
            sample_rewrites(start, tasks, rows, count, temperature, path, minutes)
        )

    def _stop(self) -> None:
        if self._rewriter:
            self._loop.run(self._rewriter.close())
            self._rewriter = None


async def sample_rewrites(
    start: Callable[[], Rewriter],
    tasks: Mapping[str, Task],
    rows: Sequence[Row],
    count: int,
    temperature: float,
    path: Path,
    minutes: float | None = None,
) -> dict[Row, Samples]:
    """One greedy answer and ``count`` drawn ones for each row.

    ``path`` (JSON lines) keeps what is done; called again after an interruption it goes on there.
    When ``minutes`` are over, the rows that are left have no samples; 0 only reads the file.

    Args:
        start: called only when something is left to do; what it gives stays open.
    """
    done = {key: samples for key, samples in _read(path).items() if len(samples.drawn) == count}
    todo = [row for row in rows if _key(tasks[row.task], row) not in done]
    if todo and minutes != 0:
        await _draw(start(), tasks, todo, count, temperature, path, done, minutes)
    keys = {row: _key(tasks[row.task], row) for row in rows}
    return {row: done[key] for row, key in keys.items() if key in done}


def joined(one: Mapping[Row, Samples], other: Mapping[Row, Samples]) -> dict[Row, Samples]:
    """The samples of both; a row in both has the other's greedy answer and all that was drawn."""
    both = {**one, **other}
    for row in one.keys() & other.keys():
        before, after = one[row], other[row]
        drawn = (before.greedy, *before.drawn, *after.drawn)
        both[row] = Samples(after.greedy, drawn, before.seconds + after.seconds)
    return both


async def _draw(
    rewriter: Rewriter,
    tasks: Mapping[str, Task],
    todo: Sequence[Row],
    count: int,
    temperature: float,
    path: Path,
    done: dict[str, Samples],
    minutes: float | None,
) -> None:
    deadline = time.monotonic() + 60 * minutes if minutes is not None else math.inf
    chunks = [todo[start : start + _CHUNK] for start in range(0, len(todo), _CHUNK)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        if file.tell():
            file.write("\n")  # the last line may have been cut off
        for chunk in track(chunks, f"Sampling, {_CHUNK} queries each"):
            if time.monotonic() > deadline:
                break
            began = time.monotonic()
            answers = await asyncio.gather(
                *(_sample(rewriter, tasks[row.task], row, count, temperature) for row in chunk)
            )
            seconds = round((time.monotonic() - began) / len(chunk), 4)
            for row, answer in zip(chunk, answers, strict=True):
                samples = answer._replace(seconds=seconds)
                key = _key(tasks[row.task], row)
                done[key] = samples
                file.write(json.dumps([key, *samples], ensure_ascii=False) + "\n")
            file.flush()


async def _sample(
    rewriter: Rewriter, task: Task, row: Row, count: int, temperature: float
) -> Samples:
    (greedy,) = await rewriter.complete(Prompt(task, row.asked), Sampling())
    if not count:
        return Samples(greedy, ())
    drawn = await rewriter.complete(Prompt(task, row.asked), Sampling(count, temperature))
    return Samples(greedy, tuple(drawn))


def _key(task: Task, row: Row) -> str:
    return f"{task.hash[:12]} {row.asked}"


def _read(path: Path) -> dict[str, Samples]:
    done = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                key, greedy, drawn, *seconds = json.loads(line)
            except ValueError:
                continue  # cut off while it was written: drawn again
            done[key] = Samples(greedy, tuple(drawn), *seconds)
    return done
