"""Candidates: what the search finds for a row, and which of it is right."""

from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import NamedTuple

from models.retriever.image_index import ImageIndex
from models.search.query import as_one_line
from models.search.rerank import text_of
from training.data.rows import Row
from training.rewards.scorer import Retriever

_SPARE = 8  # hits more than are needed, because some say the same


class Listed(NamedTuple):
    """A row with the captions of what its search finds, each once."""

    row: Row
    texts: tuple[str, ...]  # the right one first, then the others as they were found


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
    """The right caption and those of other pictures."""
    targets = {place for t in row.targets if (place := index.position(t)) is not None}
    right = _captions(index, sorted(targets))
    if not right:
        return None
    longest = max(map(len, lists))
    in_turn = (own[rank] for rank in range(longest) for own in lists if rank < len(own))
    others = [place for place in dict.fromkeys(in_turn) if place not in targets]
    wrong = [text for text in _captions(index, others) if text not in right]
    return Listed(row, (right[0], *wrong[: count - 1])) if wrong else None


def _captions(index: ImageIndex, places: Sequence[int]) -> list[str]:
    """What the pictures say, each text once."""
    texts = [text_of(item.record) for item in index.items.at(places)]
    return list(dict.fromkeys(as_one_line(text) for text in texts if text))


def told_apart(listed: Listed, count: int, seed: int) -> tuple[str, ...]:
    """The right caption and ``count - 1`` others: half of them the first found, half drawn."""
    right, *wrong = listed.texts
    hard = (count - 1) // 2
    rest = wrong[hard:]
    draws = Random(f"{seed} {listed.row.query}")
    drawn = draws.sample(rest, min(count - 1 - hard, len(rest)))
    return (right, *wrong[:hard], *drawn)
