"""A language model's answers, kept in a file as they arrive: none is ever asked for again."""

import asyncio
import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from models.common.errors import GrapeError, InputError
from models.common.progress import say, track
from models.retriever.pictures import PictureError
from models.rewriter.protocol import (
    Completion,
    Prompt,
    RewriteFailed,
    Rewriter,
    RewriterDown,
    Sampling,
)

_NAMED = 3  # of the failures

Answers = tuple[Completion, ...]  # none: the model failed at this prompt


class KeptAnswers:
    """Asks a model, and appends each answer to a file as one line.

    A process that is killed loses the answers that are still being written, and at most a part of
    the last line.

    Args:
        path: the file; whatever it holds already is not asked for again.
        model: says which model answers; another one's answers in the file are left alone.
        start: starts the model; called only if something is left to ask.
        at_once: prompts that the model has at a time; an engine batches them.

    Raises:
        InputError: another process is writing the file.
    """

    def __init__(
        self, path: Path, model: str, start: Callable[[], Rewriter], at_once: int = 128
    ) -> None:
        self._model = model
        self._at_once = at_once
        self._start = start
        self._rewriter: Rewriter | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        # Half of a UTF-16 pair, which a server may answer, becomes the escape that JSON has for it.
        self._file = open(path, "a+", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until the process ends
        except BlockingIOError as error:
            self._file.close()
            raise InputError(
                f"Another process is writing {path}: wait until it has finished."
            ) from error
        self._kept = _read(path)
        if self._file.tell():
            self._file.write("\n")  # the last line may be incomplete

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _: type[BaseException] | None,
        __: BaseException | None,
        ___: TracebackType | None,
    ) -> None:
        self._file.close()
        if self._rewriter:
            await self._rewriter.close()

    async def ask(
        self, prompts: Sequence[Prompt], sampling: Sampling, label: str | None
    ) -> list[Answers]:
        """The answers to each prompt, in the order of the prompts.

        A prompt that the model fails at has no answers, and is asked again the next time.

        Args:
            label: what the progress is called; None shows none.

        Raises:
            InputError: a prompt has a picture, and the model reads none.
            GrapeError: the model answers nothing any more. What it has answered is kept.
        """
        keys = [self._key(prompt, sampling) for prompt in prompts]
        by_key = dict(zip(keys, prompts, strict=True))
        left = {key: prompt for key, prompt in by_key.items() if key not in self._kept}
        if left:
            await self._ask_all(left, sampling, label)
        return [self._kept.get(key, ()) for key in keys]

    async def _ask_all(
        self, left: dict[str, Prompt], sampling: Sampling, label: str | None
    ) -> None:
        rewriter = self._rewriter = self._rewriter or self._start()
        shows = any(prompt.picture is not None for prompt in left.values())
        if shows and not rewriter.sees_pictures:
            raise InputError("This language model reads no pictures: name another with --llm.")
        pairs = list(left.items())
        shared = track(pairs, label) if label else iter(pairs)  # all workers take from it
        failed: list[str] = []
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._at_once, len(left))):
                    group.create_task(self._work(rewriter, shared, sampling, failed))
        except* RewriterDown as down:
            raise GrapeError(
                f"The language model is gone ({str(down.exceptions[0]).rstrip('.')}): run the same "
                "command again. What it has answered is kept."
            ) from down
        if failed:
            reasons = "; ".join(list(dict.fromkeys(failed))[:_NAMED])
            say(f"The model failed at {len(failed)} of {len(left)} prompts: {reasons}")

    async def _work(
        self,
        rewriter: Rewriter,
        shared: Iterator[tuple[str, Prompt]],
        sampling: Sampling,
        failed: list[str],
    ) -> None:
        for key, prompt in shared:
            try:
                answers = tuple((await rewriter.complete(prompt, sampling)).answers)
            except RewriterDown:
                raise
            except (RewriteFailed, PictureError) as error:
                failed.append(str(error))
                continue
            self._kept[key] = answers
            line = {"key": key, "query": prompt.query, "answers": answers}
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()

    def _key(self, prompt: Prompt, sampling: Sampling) -> str:
        """Changes with everything that an answer depends on."""
        picture = hashlib.sha256(prompt.picture).hexdigest() if prompt.picture else ""
        parts = repr((self._model, prompt.form.hash, prompt.query, picture, tuple(sampling)))
        return hashlib.sha256(parts.encode()).hexdigest()[:20]


def _read(path: Path) -> dict[str, Answers]:
    kept = {}
    with open(path, encoding="utf-8", errors="replace") as file:
        for text in file:
            try:
                line = json.loads(text)
                kept[line["key"]] = tuple(Completion(*answer) for answer in line["answers"])
            except (ValueError, TypeError, KeyError):
                continue  # an incomplete line: its prompt is asked again
    return kept
