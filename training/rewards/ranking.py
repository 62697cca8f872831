"""The rank of the right picture in the whole corpus, which every reward is made of.

This is the only place where training touches the corpus. The rank is computed once for the whole
batch of a step, by a chunked matrix product whose memory does not grow with the corpus.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.retriever.types import Vectors

Floats = npt.NDArray[np.float64]

# The scores of one chunk stay in the processor's cache while they are compared.
_CHUNK_SCORES = 1 << 20
# Scores of two copies of a picture differ in the last bits. Such a tie counts against the target.
TIE = 1e-6
TEMPERATURE = 0.01  # of the softmax, by default; about the temperature that CLIP learns
_MOST_LOG_ODDS = 80.0  # exp() of slightly more overflows float32


class Ranking(NamedTuple):
    """How well each text finds its pictures; every field is ``[texts]``.

    ``rank`` is ``1 + #{pictures outside the targets with score >= the best target's}``, so ties
    count against the target. The others are cosines, except for ``log_probability``: that of the
    best target, in the softmax over it and all pictures outside the targets.
    """

    rank: Floats  # whole numbers; estimates if a pool represents the corpus
    positive: Floats  # the best target
    hardest: Floats  # the best picture outside the targets; -1 if there is none
    random: Floats  # mean of all pictures outside the targets
    log_probability: Floats
    corpus_size: int

    def take(self, rows: Sequence[int]) -> "Ranking":
        """The ranking of some of the texts, by position."""
        chosen = list(rows)
        return Ranking(
            self.rank[chosen],
            self.positive[chosen],
            self.hardest[chosen],
            self.random[chosen],
            self.log_probability[chosen],
            self.corpus_size,
        )


class Ranker(Protocol):
    """The whole corpus, or a pool that represents it."""

    def rank(self, texts: Vectors, targets: Sequence[Sequence[int]]) -> Ranking:
        """Ranks each text's best target.

        Args:
            texts: unit vectors, float32 ``[q, dim]``.
            targets: for each text the positions of its right pictures, at least one.
        """

    def with_temperature(self, temperature: float) -> "Ranker":
        """The same corpus, with another temperature of the softmax."""


@dataclass(frozen=True)
class Corpus:
    """The vectors of all pictures, on the device that multiplies them."""

    vectors: Tensor  # float32 [n, dim]
    temperature: float = TEMPERATURE  # of the softmax

    @classmethod
    def of(cls, vectors: Vectors, device: str = "cpu") -> "Corpus":
        return cls(torch.from_numpy(vectors).to(device))

    def __len__(self) -> int:
        return len(self.vectors)

    def with_temperature(self, temperature: float) -> "Corpus":
        return Corpus(self.vectors, temperature)

    def part(self, positions: Sequence[int]) -> "Part":
        """The corpus of some of the pictures."""
        places = {position: place for place, position in enumerate(positions)}
        return Part(Corpus(self.vectors[list(positions)], self.temperature), places)

    @cached_property
    def _sum(self) -> Tensor:
        """Cached: reading a million vectors takes a tenth of the time of ranking a batch."""
        return self.vectors.sum(0)

    @torch.inference_mode()
    def rank(
        self,
        texts: Vectors,
        targets: Sequence[Sequence[int]],
        left_out: Sequence[Sequence[int]] | None = None,
    ) -> Ranking:
        """As :meth:`Ranker.rank`, among all pictures.

        Args:
            left_out: for each text the positions to ignore, as if they were not in the corpus; none
                of them is a target.
        """
        device = self.vectors.device
        queries = torch.from_numpy(texts).to(device)
        ignored = left_out or [()] * len(targets)
        both = [[*right, *out] for right, out in zip(targets, ignored, strict=True)]
        excluded, real = pad(both, device)
        counts = torch.tensor([len(right) for right in targets], device=device)
        right = torch.arange(excluded.shape[1], device=device) < counts.unsqueeze(1)
        scores = torch.einsum("qd,qtd->qt", queries, self.vectors[excluded])
        best = scores.masked_fill(~right, -torch.inf).amax(1)
        accumulator = RankAccumulator(best, self.temperature)
        accumulator.add(queries, self.vectors, excluded, real)
        others = (len(self) - real.sum(1)).clamp(min=1)
        random = (queries @ self._sum - (scores * real).sum(1)) / others
        return accumulator.ranking(random, len(self))


@dataclass(frozen=True)
class Part:
    """Some pictures of a corpus. They keep their positions; the others are left out."""

    corpus: Corpus  # of these pictures alone
    places: Mapping[int, int]  # position in the whole corpus -> in this one

    def with_temperature(self, temperature: float) -> "Part":
        return Part(self.corpus.with_temperature(temperature), self.places)

    def rank(self, texts: Vectors, targets: Sequence[Sequence[int]]) -> Ranking:
        """As :meth:`Ranker.rank`, among these pictures, with their number as the corpus size."""
        return self.corpus.rank(texts, [[self.places[p] for p in right] for right in targets])


class RankAccumulator:
    """Accumulates a ranking over chunks of pictures; fields are ``[q]``.

    Args:
        best: for each text the score of its best target.
        temperature: of the softmax.
    """

    def __init__(self, best: Tensor, temperature: float = TEMPERATURE) -> None:
        self.best = best
        self._temperature = temperature
        self.above = torch.zeros_like(best, dtype=torch.float64)
        self.hardest = torch.full_like(best, -1.0)
        # Of all pictures outside the targets against the best target, in the softmax.
        self.odds = torch.zeros_like(best, dtype=torch.float64)

    def add(
        self, queries: Tensor, vectors: Tensor, targets: Tensor, real: Tensor, weight: float = 1.0
    ) -> None:
        """Compares every text with every picture except its targets.

        Args:
            vectors: float32 ``[n, dim]``.
            targets: positions in ``vectors``, ``[q, most]``.
            real: which targets are not padding, bool ``[q, most]``.
            weight: how many pictures each of these represents.
        """
        step = max(1, _CHUNK_SCORES // max(len(queries), 1))
        for start in range(0, len(vectors), step):
            chunk = vectors[start : start + step]
            scores = queries @ chunk.T
            inside = real & (targets >= start) & (targets < start + len(chunk))
            row, column = torch.nonzero(inside, as_tuple=True)
            scores[row, targets[row, column] - start] = -torch.inf
            better = torch.count_nonzero(scores >= self.best.unsqueeze(1) - TIE, dim=1)
            self.above += weight * better
            self.hardest = torch.maximum(self.hardest, scores.amax(1))
            scores.sub_(self.best.unsqueeze(1)).div_(self._temperature)
            scores.clamp_(max=_MOST_LOG_ODDS).exp_()
            self.odds += weight * scores.sum(1, dtype=torch.float64)

    def ranking(self, random: Tensor, corpus_size: int) -> Ranking:
        """The accumulated ranking.

        Args:
            random: mean similarity to all pictures outside the targets, ``[q]``.
        """
        return Ranking(
            _floats(1 + self.above),
            _floats(self.best),
            _floats(self.hardest),
            _floats(random),
            _floats(-torch.log1p(self.odds)),
            corpus_size,
        )


def pad(targets: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Positions, int64 ``[q, most]``, padded with 0, and which of them are real, bool."""
    most = max(map(len, targets), default=1)
    padded = np.zeros((len(targets), most), np.int64)
    real = np.zeros((len(targets), most), bool)
    for row, positions in enumerate(targets):
        padded[row, : len(positions)] = positions
        real[row, : len(positions)] = True
    return torch.from_numpy(padded).to(device), torch.from_numpy(real).to(device)


def _floats(values: Tensor) -> Floats:
    array: Floats = values.double().cpu().numpy()
    return array
