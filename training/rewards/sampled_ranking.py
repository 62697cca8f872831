"""Ranks in a very large corpus, estimated from hard negatives and a random sample."""

import copy
from collections.abc import Sequence

import numpy as np
import torch

from models.retriever.image_index import ImageIndex
from models.retriever.types import Vectors
from training.rewards.ranking import TEMPERATURE, RankAccumulator, Ranking, pad


class Pool:
    """Estimates what :class:`training.rewards.ranking.Corpus` computes.

    The pool of a batch consists of the nearest neighbours of its targets (from FAISS; the pictures
    they are confused with), which count once each, and of a random sample of the rest, drawn for
    every batch. A picture of the sample counts ``(N - neighbours) / sample`` times, so that the
    expected rank is the exact one.
    """

    def __init__(self, index: ImageIndex, hard: int, random: int, seed: int) -> None:
        """
        Args:
            hard: neighbours of each target.
            random: pictures in the sample.
        """
        self._index = index
        self._vectors = index.vectors()
        self._hard = hard
        self._random = random
        self._temperature = TEMPERATURE
        self._rng = np.random.default_rng(seed)
        self._neighbours: dict[int, list[int]] = {}

    def with_temperature(self, temperature: float) -> "Pool":
        other = copy.copy(self)
        other._temperature = temperature
        return other

    @torch.inference_mode()
    def rank(self, texts: Vectors, targets: Sequence[Sequence[int]]) -> Ranking:
        """As :meth:`training.rewards.ranking.Ranker.rank`; ``rank`` is an estimate, not below 1."""
        queries = torch.from_numpy(texts)
        near = self._near({position for positions in targets for position in positions})
        place = {position: number for number, position in enumerate(near.tolist())}
        local, real = pad([[place[p] for p in positions] for positions in targets], queries.device)
        near_vectors = torch.from_numpy(self._vectors[near])
        scores = torch.einsum("qd,qtd->qt", queries, near_vectors[local])
        best = scores.masked_fill(~real, -torch.inf).amax(1)
        accumulator = RankAccumulator(best, self._temperature)
        accumulator.add(queries, near_vectors, local, real)

        rest = np.setdiff1d(np.arange(len(self._index)), near, assume_unique=True)
        drawn = self._rng.choice(rest, min(self._random, len(rest)), replace=False)
        sample = torch.from_numpy(self._vectors[drawn])
        weight = len(rest) / max(len(drawn), 1)
        accumulator.add(queries, sample, local, torch.zeros_like(real), weight)
        random = queries @ sample.mean(0) if len(drawn) else torch.zeros(len(queries))
        return accumulator.ranking(random, len(self._index))

    def _near(self, targets: set[int]) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        """Positions of the targets and of their neighbours, each once."""
        unseen = sorted(targets - self._neighbours.keys())
        if unseen:
            found = self._index.search(self._vectors[unseen], self._hard)
            for target, hits in zip(unseen, found, strict=True):
                self._neighbours[target] = [target, *(hit.position for hit in hits)]
        return np.unique([p for target in targets for p in self._neighbours[target]])
