"""Candidates in groups: the prompts that a group reranker learns from, and a teacher's ratings."""

import re
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import numpy as np

from models.rewriter.tasks import HIGHEST, Task, rerank_query
from models.search.rerank import groups_of
from training.rerank.candidates import Listed
from training.rewards.ranking import Floats
from training.rewards.scorer import Retriever

_MOST_WRONG = 6  # rating of a wrong candidate, at most: it must not be taken for a right one


class Group(NamedTuple):
    """What one prompt shows."""

    places: tuple[int, ...]  # of its candidates among those of the query
    prompt: str


class Grouped(NamedTuple):
    """A query with its candidates in groups, which are shuffled."""

    listed: Listed
    groups: tuple[Group, ...]
    teacher: tuple[int, ...] = ()  # the ratings to learn, of each candidate


def in_groups(task: Task, listed: Listed, seed: int) -> Grouped:
    """Deals a row's candidates out. A right one has no place of its own in this order."""
    order = list(range(len(listed.texts)))
    Random(f"{seed} {listed.row.query}").shuffle(order)
    groups = []
    for dealt in groups_of(len(order)):
        places = tuple(order[n] for n in dealt)
        shown = rerank_query(listed.row.query, [listed.texts[place] for place in places])
        groups.append(Group(places, task.prompt(shown)))
    return Grouped(listed, tuple(groups))


def teacher_ratings(retriever: Retriever, listed: Sequence[Listed]) -> list[tuple[int, ...]]:
    """What each candidate should be rated: right ones 9, or from 7 to 9 by grade; others 0 to 6.

    The frozen encoder rates a wrong one: 6 times its cosine to the right picture, where 0 is the
    candidate that is the farthest and 1 the best right caption.
    """
    texts = list(dict.fromkeys(text for one in listed for text in one.texts))
    vectors = retriever.encoder.encode_texts(texts)
    place = {text: number for number, text in enumerate(texts)}
    corpus = retriever.index.vectors()
    rated = []
    for one in listed:
        right = [p for t in one.row.targets if (p := retriever.index.position(t)) is not None]
        cosines = vectors[[place[text] for text in one.texts]] @ corpus[right].T
        rated.append(_ratings(cosines.max(1), one.grades))
    return rated


def _ratings(cosines: Floats, grades: Sequence[int]) -> tuple[int, ...]:
    """Of the right captions, which are the first, and of the others."""
    least, most = min(grades), max(grades)
    apart = (HIGHEST - _MOST_WRONG - 1) / max(most - least, 1)
    right = [round(HIGHEST - apart * (most - grade)) for grade in grades]
    low = cosines.min()
    share = (cosines[len(grades) :] - low) / max(float(cosines[0] - low), 1e-6)
    wrong = np.rint(_MOST_WRONG * share.clip(0, 1)).astype(int)
    return (*right, *wrong.tolist())


def answer(ratings: Sequence[int]) -> str:
    """Ratings as the model writes them."""
    return " ".join(map(str, ratings))


def read_answer(text: str, count: int) -> tuple[list[float], bool]:
    """The ratings that an answer gives, NaN for missing ones; and whether it has nothing else."""
    digits = [float(digit) for digit in re.findall(r"[0-9]", text)]
    exact = re.fullmatch(r"\s*[0-9](?:\s[0-9])*\s*", text) is not None
    values = [*digits, *[float("nan")] * count][:count]
    return values, exact and len(digits) == count
