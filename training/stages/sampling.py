"""Rewrites sampled from a language model, kept in a file as they arrive."""

import asyncio
import json
import math
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

from models.common.progress import track
from models.rewriter.protocol import Completion, Prompt, Rewriter, Sampling
from models.rewriter.tasks import RERANK_TASKS, Task
from models.rewriter.vllm import VLLMOptions, VLLMRewriter
from models.search.compare import Tasks
from models.search.options import Fusion
from models.search.rerank import Comparison
from training.data.rows import Row
from training.stages.scoring import Scores, score_candidates

Result = TypeVar("Result")

_CHUNK = 64  # queries between two writes


class Samples(NamedTuple):
    """What the model wrote for one query, unparsed."""

    greedy: str
    drawn: tuple[str, ...]
    seconds: float = 0.0  # engine time per query, with the whole chunk running at once
    best: tuple[Completion, ...] = ()  # the most probable answers, if these were asked for

    def answers(self, fusion: Fusion) -> list[Completion]:
        """What is searched, if the searches are fused like this."""
        if self.best:
            return list(self.best)
        # In a mixture each draw counts as its share, and the greedy answer is none.
        first = [] if self.drawn and fusion == "mixture" else [self.greedy]
        return [Completion(text) for text in (*first, *self.drawn)]


NO_SAMPLES = Samples("", ())  # of a row that was never sampled


@dataclass(frozen=True)
class SamplingRequest:
    """One greedy answer and ``count`` sampled ones for each row.

    With temperature 0, the ``count`` most probable ones instead, or as few as have the coverage.
    """

    tasks: Mapping[str, Task]  # the prompts, by the rows' tasks
    rows: Sequence[Row]
    count: int
    temperature: float
    path: Path  # JSON lines; keeps what is done, so that an interrupted request continues
    minutes: float | None = None  # rows left after this time get no samples; 0: read the file only
    coverage: float = 1.0

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.count, self.temperature, self.coverage)

    def has_all(self, samples: Samples) -> bool:
        """Whether nothing is left to sample for a row."""
        if self.sampling.finds_several:
            return bool(samples.best)
        return len(samples.drawn) == self.count

    def key(self, row: Row) -> str:
        """Identifies the prompt of a row in the file."""
        return f"{self.tasks[row.task].hash[:12]} {row.asked}"


class Engine:
    """vLLM as serving uses it, one model at a time; started only if something is left to sample."""

    def __init__(self) -> None:
        self._loop = asyncio.Runner()  # an engine belongs to the event loop that started it
        self._model = ""
        self._rewriter: Rewriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._loop.close()

    def samples(self, model: str, request: SamplingRequest) -> dict[Row, Samples]:
        """:func:`sample_rewrites` from a model.

        Args:
            model: a checkpoint's folder, or a name on the hub.
        """
        return self._loop.run(sample_rewrites(self._starts(model), request))

    def run(
        self, model: str, work: Callable[[Callable[[], Rewriter]], Coroutine[Any, Any, Result]]
    ) -> Result:
        """Other work with a model, which is started when the work first asks for it."""
        return self._loop.run(work(self._starts(model)))

    def scores(
        self, model: str, asked: Sequence[Comparison], path: Path, tasks: Tasks = RERANK_TASKS
    ) -> list[Scores]:
        """:func:`score_candidates` by a model."""
        return self._loop.run(score_candidates(self._starts(model), asked, path, tasks))

    def _starts(self, model: str) -> Callable[[], Rewriter]:
        if self._model != model:
            self._stop()

        def start() -> Rewriter:
            if self._rewriter is None:
                self._rewriter = VLLMRewriter(VLLMOptions(model, max_num_seqs=128))
                self._model = model
            return self._rewriter

        return start

    def _stop(self) -> None:
        if self._rewriter:
            self._loop.run(self._rewriter.close())
            self._rewriter = None


async def sample_rewrites(
    start: Callable[[], Rewriter], request: SamplingRequest
) -> dict[Row, Samples]:
    """The samples of each row; rows that ran out of time are missing.

    Args:
        start: gives the rewriter, which stays open; called only if something is left to do.
    """
    kept = _read(request.path)
    done = {key: samples for key, samples in kept.items() if request.has_all(samples)}
    left = [row for row in request.rows if request.key(row) not in done]
    if left and request.minutes != 0:
        done |= await _sample_all(start(), request, left)
    keys = {row: request.key(row) for row in request.rows}
    return {row: done[key] for row, key in keys.items() if key in done}


def merged(one: Mapping[Row, Samples], other: Mapping[Row, Samples]) -> dict[Row, Samples]:
    """The samples of both; a row in both has the other's greedy answer and everything drawn."""
    both = {**one, **other}
    for row in one.keys() & other.keys():
        before, after = one[row], other[row]
        drawn = (before.greedy, *before.drawn, *after.drawn)
        both[row] = Samples(after.greedy, drawn, before.seconds + after.seconds)
    return both


async def _sample_all(
    rewriter: Rewriter, request: SamplingRequest, left: Sequence[Row]
) -> dict[str, Samples]:
    """Samples chunk by chunk until the time is up, and appends each chunk to the file."""
    minutes = request.minutes
    deadline = time.monotonic() + 60 * minutes if minutes is not None else math.inf
    chunks = [left[start : start + _CHUNK] for start in range(0, len(left), _CHUNK)]
    done: dict[str, Samples] = {}
    request.path.parent.mkdir(parents=True, exist_ok=True)
    with open(request.path, "a", encoding="utf-8") as file:
        if file.tell():
            file.write("\n")  # the last line may be incomplete
        for chunk in track(chunks, f"Sampling, {_CHUNK} queries each"):
            if time.monotonic() > deadline:
                break
            found = await _sample_chunk(rewriter, request, chunk)
            for key, samples in found.items():
                file.write(json.dumps([key, *samples], ensure_ascii=False) + "\n")
            file.flush()
            done |= found
    return done


async def _sample_chunk(
    rewriter: Rewriter, request: SamplingRequest, chunk: Sequence[Row]
) -> dict[str, Samples]:
    began = time.monotonic()
    found = await asyncio.gather(*(_sample(rewriter, request, row) for row in chunk))
    seconds = round((time.monotonic() - began) / len(chunk), 4)
    return {
        request.key(row): samples._replace(seconds=seconds)
        for row, samples in zip(chunk, found, strict=True)
    }


async def _sample(rewriter: Rewriter, request: SamplingRequest, row: Row) -> Samples:
    prompt = Prompt(request.tasks[row.task], row.asked)
    if request.sampling.finds_several:
        best = (await rewriter.complete(prompt, request.sampling)).answers
        return Samples(best[0].text, (), best=tuple(best))
    ((greedy,), _) = await rewriter.complete(prompt, Sampling())
    if not request.count:
        return Samples(greedy.text, ())
    drawn = (await rewriter.complete(prompt, request.sampling)).answers
    return Samples(greedy.text, tuple(answer.text for answer in drawn))


def _read(path: Path) -> dict[str, Samples]:
    done = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                key, greedy, drawn, seconds, *best = json.loads(line)
            except ValueError:
                continue  # an incomplete line, or an old one: its query is sampled again
            answers = tuple(Completion(*answer) for found in best for answer in found)
            done[key] = Samples(greedy, tuple(drawn), seconds, answers)
    return done
