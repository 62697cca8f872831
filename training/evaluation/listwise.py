"""Listwise reranking: the language model writes the candidates' order, a window at a time.

This is the sliding window of RankGPT (Sun et al., 2023, Is ChatGPT Good at Search?). The model is
shown the last :data:`WINDOW` candidates with numbers and writes these from the best to the worst.
The window then moves :data:`STEP` places to the front, so that a good candidate can rise all the
way. Ours are the prompt, which has examples because the model need not follow instructions, and
the last window, which always begins at the first candidate.

The model writes an order and no scores. A candidate's score here is its place with a minus.
"""

import hashlib
import inspect
import json
import re
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import NamedTuple

from models.common.progress import track
from models.rewriter.protocol import Prompt, RewriteFailed, Rewriter, RewriterDown, Sampling
from models.rewriter.tasks import Task, rerank_query
from models.search.rerank import Comparison
from training.evaluation.kept import KeptLines

WINDOW = 10  # candidates in a prompt
STEP = 5  # places to the front

LISTWISE = Task(
    name="rerank",
    instruction="Put the pictures in order, from the one that fits the words best to the worst.",
    labels=("Words and pictures", "Order"),
    # None of these names an image of the demo gallery.
    examples=(
        (
            "rotes dach / 1 old door / 2 red apples / 3 roof / 4 empty coffee cup / 5 red roof / "
            "6 white wall / 7 sad child / 8 red hat / 9 candlestick / 10 long road",
            "5 > 3 > 8 > 2 > 6 > 1 > 10 > 4 > 9 > 7",
        ),
        (
            "anak tertawa / 1 laughing girl / 2 crying man / 3 closed door / 4 green hat / "
            "5 praying man / 6 towel / 7 sad child / 8 blue wall / 9 bent arrow / "
            "10 laughing child",
            "10 > 1 > 7 > 2 > 5 > 4 > 6 > 3 > 8 > 9",
        ),
        (
            "弯曲的箭 / 1 little bird / 2 bent arrow / 3 straight line / 4 long road / 5 towel / "
            "6 black umbrella / 7 curved line / 8 green leaves / 9 visitor / "
            "10 arrow pointing forward",
            "2 > 10 > 7 > 3 > 4 > 6 > 1 > 8 > 5 > 9",
        ),
    ),
    max_tokens=64,
    max_chars=1600,
)


class Written(NamedTuple):
    """What the model wrote for one query's candidates."""

    answers: list[str]  # one for each window, unparsed; empty if the model gave none
    seconds: float  # of the engine, with nothing else to do


class Ranked(NamedTuple):
    """The order that the answers make."""

    scores: list[float | None]  # of each text: its place with a minus
    prompts: list[str]  # that the model read


def order_in(answer: str, count: int) -> list[int]:
    """The places of a window's candidates, in the order that the model wrote.

    A number that is repeated counts once, one that stands for no candidate not at all. Candidates
    that are missing follow in the order that they had.
    """
    written = re.findall(r"[0-9]+", answer.split("\n", 1)[0])
    numbers = [int(digits) - 1 for digits in written if len(digits) < 4]
    named = [number for number in dict.fromkeys(numbers) if 0 <= number < count]
    return [*named, *sorted(set(range(count)) - set(named))]


_PARSER = inspect.getsource(order_in)  # read now, because the file may change later


def fingerprint() -> str:
    """Changes with the prompt, the windows and the parser."""
    return hashlib.sha256(f"{LISTWISE.hash} {WINDOW} {STEP} {_PARSER}".encode()).hexdigest()


def windows(count: int) -> list[int]:
    """The first place of each window, in the order in which they are shown."""
    return [*range(max(count - WINDOW, 0), 0, -STEP), 0]


async def write_orders(
    start: Callable[[], Rewriter], asked: Sequence[Comparison], path: Path
) -> list[Written]:
    """What the model writes for each query; what is in the file is read from it.

    Args:
        start: gives the rewriter, which stays open; called only if something is left to do.
        path: JSON lines.
    """
    kept = KeptLines(path)
    left = {key: one for one in asked if (key := _key(one)) not in kept}
    if left:
        rewriter = start()
        # The first one computes the beginning that all prompts share.
        await _written(rewriter, next(iter(left.values())))
        for key in track(list(left), "Writing orders"):
            kept.add(key, await _written(rewriter, left[key]))
    return [Written(*kept[_key(one)]) for one in asked]


def ranked(asked: Comparison, answers: Sequence[str]) -> Ranked:
    """Goes through the windows once more, with the answers that were kept."""
    steps, prompts = _steps(asked), []
    prompt = next(steps)
    try:
        for answer in answers:
            prompts.append(LISTWISE.prompt(prompt.query))
            prompt = steps.send(answer)
    except StopIteration as ended:
        places = {place: -float(rank) for rank, place in enumerate(ended.value)}
        return Ranked([places[place] for place in range(len(asked.texts))], prompts)
    raise AssertionError("there is an answer for each window")


async def _written(rewriter: Rewriter, asked: Comparison) -> Written:
    began = time.monotonic()
    steps, answers = _steps(asked), []
    prompt = next(steps)
    try:
        while True:
            answers.append(await _answer(rewriter, prompt))
            prompt = steps.send(answers[-1])
    except StopIteration:
        return Written(answers, round(time.monotonic() - began, 4))


async def _answer(rewriter: Rewriter, prompt: Prompt) -> str:
    try:
        return (await rewriter.complete(prompt, Sampling())).answers[0].text
    except RewriterDown:
        raise
    except RewriteFailed:
        return ""  # for example a window that is too long: it keeps its order


def _steps(asked: Comparison) -> Generator[Prompt, str, list[int]]:
    """Yields what the model is asked, is sent what it writes, and returns the texts' order."""
    order = list(range(len(asked.texts)))
    for first in windows(len(order)):
        window = order[first : first + WINDOW]
        shown = rerank_query(asked.query, [asked.texts[place] for place in window])
        answer = yield Prompt(LISTWISE, shown)
        order[first : first + WINDOW] = [window[n] for n in order_in(answer, len(window))]
    return order


def _key(asked: Comparison) -> str:
    parts = [fingerprint(), asked.query, asked.texts]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
