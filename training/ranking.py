"""Where the right picture ranks in the whole corpus: what every reward is made of.

The one place where training touches the corpus. Computed once for a step's whole batch, by a matrix
product in chunks: memory does not grow with the corpus.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.types import Vectors

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Scores of one chunk stay in the processor's cache while they are compared.
_CHUNK_SCORES = 1 << 20
# The same picture twice gives scores that differ in the last bits; such a tie counts against.
_TIE = 1e-6
TEMPERATURE = 0.01  # of the softmax over the corpus; CLIP trains with about this


class Ranking(NamedTuple):
    """How each text finds its pictures; every field is ``[texts]``.

    ``rank`` is ``1 + #{pictures outside the targets with score >= the best target's}``: ties count
    against. The rest are cosines, but for ``log_probability``: of the best target in the softmax
    over it and all other pictures.
    """

    rank: Floats  # whole numbers; an estimate where a pool stands for the corpus
    positive: Floats  # the best target
    hardest: Floats  # the best picture outside the targets; -1 where there is none
    random: Floats  # mean of all pictures outside the targets
    log_probability: Floats
    corpus_size: int


@dataclass(frozen=True)
class Corpus:
    """The vectors of every picture, on the device that they are multiplied on."""

    vectors: Tensor  # float32 [n, dim]

    @classmethod
    def of(cls, vectors: Vectors, device: str = "cpu") -> "Corpus":
        return cls(torch.from_numpy(vectors).to(device))

    def __len__(self) -> int:
        return len(self.vectors)

    @torch.inference_mode()
    def rank(self, texts: Vectors, targets: Sequence[Sequence[int]]) -> Ranking:
        """Ranks each text's best target among all pictures.

        Args:
            texts: unit vectors, float32 ``[q, dim]``.
            targets: for each text the positions of its right pictures, at least one.
        """
        queries = torch.from_numpy(texts).to(self.vectors.device)
        padded, is_target = _pad(targets, self.vectors.device)
        target_scores = torch.einsum("qd,qtd->qt", queries, self.vectors[padded])
        best = target_scores.masked_fill(~is_target, -torch.inf).amax(1)
        tally = _Tally(best)
        step = max(1, _CHUNK_SCORES // max(len(queries), 1))
        for start in range(0, len(self), step):
            chunk = self.vectors[start : start + step]
            scores = queries @ chunk.T
            local = padded - start
            inside = is_target & (local >= 0) & (local < len(chunk))
            row, column = torch.nonzero(inside, as_tuple=True)
            scores[row, local[row, column]] = -torch.inf
            tally.add(scores)
        others = len(self) - is_target.sum(1)
        total = queries @ self.vectors.sum(0) - (target_scores * is_target).sum(1)
        return tally.ranking(total / others.clamp(min=1), len(self))


class _Tally:
    """Sums up chunk after chunk what a ranking tells; target scores come as minus infinity."""

    def __init__(self, best: Tensor) -> None:
        self.best = best
        self.above = torch.zeros_like(best, dtype=torch.int64)
        self.hardest = torch.full_like(best, -1.0)
        # Softmax relative to the best target: no running maximum is needed, for no score is over 1.
        self.odds = torch.zeros_like(best, dtype=torch.float64)

    def add(self, scores: Tensor) -> None:
        self.above += torch.count_nonzero(scores >= self.best.unsqueeze(1) - _TIE, dim=1)
        self.hardest = torch.maximum(self.hardest, scores.amax(1))
        scores.sub_(1.0).div_(TEMPERATURE).exp_()
        self.odds += scores.sum(1, dtype=torch.float64)

    def ranking(self, random: Tensor, corpus_size: int) -> Ranking:
        relative = (self.best.double() - 1.0) / TEMPERATURE
        log_all = torch.logaddexp(relative, self.odds.clamp(min=1e-300).log())
        return Ranking(
            rank=_floats(1 + self.above),
            positive=_floats(self.best),
            hardest=_floats(self.hardest),
            random=_floats(random),
            log_probability=_floats(relative - log_all),
            corpus_size=corpus_size,
        )


def _pad(targets: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Positions ``[q, most]``, filled up with 0, and which of them are real."""
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
