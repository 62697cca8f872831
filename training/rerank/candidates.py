"""Candidates: what the search finds for a row, and which of it is right."""

from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import NamedTuple

import numpy as np

from models.retriever.image_index import ImageIndex
from models.search.query import as_one_line
from models.search.rerank import text_of
from training.data.rows import Row
from training.rewards.ranking import Floats
from training.rewards.scorer import Retriever

_SPARE = 8  # hits more than are needed, because some say the same


class Listed(NamedTuple):
    """A row with the captions of what its search finds, each once."""

    row: Row
    texts: tuple[str, ...]  # the right ones first, then the others as they were found
    # Grades of the right ones, the highest first. A row without grades has one: any is right.
    grades: tuple[int, ...] = (1,)

    @property
    def relevance(self) -> Floats:
        """Of each text, 0 if it is wrong; float64 ``[texts]``."""
        relevance = np.zeros(len(self.texts))
        relevance[: len(self.grades)] = self.grades
        return relevance


def candidates_of(
    retriever: Retriever,
    rewrites: Mapping[Row, Sequence[str]],
    count: int,
    left_out: Collection[str] = (),
) -> list[Listed]:
    """The candidates of each row; rows without a right caption, or without another, are left out.

    Each rewrite, the query as typed and the row's own English are searched, and their hits are
    taken in turn.

    Args:
        rewrites: of each row; may be none.
        count: candidates, the right one included.
        left_out: ids of pictures that are no candidates.
    """
    searched = [
        (row, text)
        for row, texts in rewrites.items()
        for text in dict.fromkeys((*texts, row.query, *((row.english,) if row.english else ())))
    ]
    if not searched:
        return []
    index = retriever.index
    vectors = retriever.encoder.encode_texts([text for _, text in searched])
    hits = index.search(vectors, min(count + _SPARE + len(left_out), len(index)))
    gone = {index.position(picture) for picture in left_out}
    lists: dict[Row, list[list[int]]] = {row: [] for row in rewrites}
    for (row, _), own in zip(searched, hits, strict=True):
        found = [hit.position for hit in own if hit.position not in gone]
        lists[row].append(found[: count + _SPARE])
    listed = [_listed(index, row, own, count) for row, own in lists.items()]
    return [one for one in listed if one]


def _listed(
    index: ImageIndex, row: Row, lists: Sequence[Sequence[int]], count: int
) -> Listed | None:
    """The right captions and those of other pictures."""
    graded = zip(row.targets, row.grades or [1] * len(row.targets), strict=True)
    targets = {p: grade for t, grade in graded if (p := index.position(t)) is not None}
    right = _graded_captions(index, targets)
    if not right:
        return None
    kept = list(right)[: count - 1 if row.grades else 1]
    longest = max(map(len, lists))
    in_turn = (own[rank] for rank in range(longest) for own in lists if rank < len(own))
    others = [place for place in dict.fromkeys(in_turn) if place not in targets]
    wrong = [text for text in _captions(index, others) if text not in right]
    if not wrong:
        return None
    texts = (*kept, *wrong[: count - len(kept)])
    return Listed(row, texts, tuple(right[text] for text in kept))


def _graded_captions(index: ImageIndex, targets: Mapping[int, int]) -> dict[str, int]:
    """What the right pictures say, each text once with its best grade; the best first."""
    graded: dict[str, int] = {}
    for place in sorted(targets, key=lambda place: (-targets[place], place)):
        for text in _captions(index, [place]):
            graded.setdefault(text, targets[place])
    return graded


def _captions(index: ImageIndex, places: Sequence[int]) -> list[str]:
    """What the pictures say, each text once."""
    texts = [text_of(item.record) for item in index.items.at(places)]
    return list(dict.fromkeys(as_one_line(text) for text in texts if text))


def best_rank(scores: Floats, right: int) -> int:
    """The rank of the best right caption, from 1; ties count against it.

    Args:
        scores: of a row's captions, float64 ``[texts]``.
        right: how many of them, at the beginning, are right.
    """
    return int(1 + np.sum(scores[right:] >= scores[:right].max()))


def told_apart(listed: Listed, count: int, seed: int) -> Listed:
    """``count`` of the captions: the right ones, and others, half the first found, half drawn."""
    grades = listed.grades[: count - 1]
    right, wrong = listed.texts[: len(grades)], listed.texts[len(listed.grades) :]
    left = count - len(right)
    hard = left // 2
    rest = wrong[hard:]
    draws = Random(f"{seed} {listed.row.query}")
    drawn = draws.sample(rest, min(left - hard, len(rest)))
    return Listed(listed.row, (*right, *wrong[:hard], *drawn), grades)
