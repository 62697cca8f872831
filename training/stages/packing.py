"""Prompts and answers packed into rows: a prompt once for its group, and equal answers once."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Ids = tuple[int, ...]
_PADDING = -1  # the segment of a position that holds no token
_PROMPT = 0  # the segment of the prompt; each answer has its own


class Packed(NamedTuple):
    """One row for each distinct prompt: the prompt, then its distinct answers one after another.

    An answer sees the prompt and itself, at the positions that it would have alone. Its last token
    is predicted but not an input, because nothing follows it.
    """

    ids: Tensor  # int64 [rows, length]
    positions: Tensor  # int64 [rows, length]; restart behind the prompt for each answer
    visible: Tensor  # bool [rows, 1, length, length]; query by key
    scored: Tensor  # int64 [tokens]; where in the flattened rows each answer token is predicted
    labels: Tensor  # int64 [tokens]; the answer tokens
    place: Tensor  # int64 [answers, most tokens]; each answer's tokens in ``labels``, or -1

    def to(self, device: torch.device) -> "Packed":
        return Packed(*(tensor.to(device) for tensor in self))


def pack(prompts: Sequence[Ids], answers: Sequence[Ids], pad: int) -> Packed:
    """Packs answers with their prompts.

    Args:
        prompts: the prompt of each answer, not empty.
        answers: token ids; an empty answer has no tokens to score.
        pad: id of the padding token.
    """
    groups: dict[Ids, dict[Ids, list[int]]] = {}
    for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        groups.setdefault(prompt, {}).setdefault(answer, []).append(number)
    rows = [_row(prompt, list(found)) for prompt, found in groups.items()]
    length = max(len(row.ids) for row in rows)
    place = torch.full((len(answers), max(1, *map(len, answers))), -1)
    scored: list[int] = []
    for number, (row, found) in enumerate(zip(rows, groups.values(), strict=True)):
        for predictors, sharing in zip(row.predictors, found.values(), strict=True):
            tokens = torch.arange(len(scored), len(scored) + len(predictors))
            place[sharing, : len(predictors)] = tokens
            scored += [number * length + predictor for predictor in predictors]
    segments = _padded([row.segments for row in rows], length, _PADDING)
    return Packed(
        ids=_padded([row.ids for row in rows], length, pad),
        positions=_padded([row.positions for row in rows], length, 0),
        visible=_visible(segments),
        scored=torch.tensor(scored, dtype=torch.int64),
        labels=torch.tensor(
            [t for found in groups.values() for ids in found for t in ids], dtype=torch.int64
        ),
        place=place,
    )


class _Row(NamedTuple):
    ids: list[int]
    positions: list[int]
    segments: list[int]
    predictors: list[list[int]]  # for each answer, the positions whose output predicts its tokens


def _row(prompt: Ids, answers: Sequence[Ids]) -> _Row:
    size = len(prompt)
    row = _Row(list(prompt), list(range(size)), [_PROMPT] * size, [])
    for segment, answer in enumerate(answers, 1):
        start, inputs = len(row.ids), answer[:-1]
        row.ids.extend(inputs)
        row.positions.extend(range(size, size + len(inputs)))
        row.segments.extend([segment] * len(inputs))
        row.predictors.append([size - 1, *range(start, start + len(inputs))][: len(answer)])
    return row


def _visible(segments: Tensor) -> Tensor:
    """Causal within the prompt and within an answer, which sees the prompt too."""
    query, key = segments.unsqueeze(2), segments.unsqueeze(1)
    length = segments.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool).tril()
    return (earlier & ((key == query) | (key == _PROMPT))).unsqueeze(1)


def _padded(rows: Sequence[Sequence[int]], length: int, pad: int) -> Tensor:
    return torch.tensor([[*row, *[pad] * (length - len(row))] for row in rows])
