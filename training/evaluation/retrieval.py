"""Texts to ranks and to lists of pictures, for one text a query or for several."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.fusion import RRF_K
from models.types import Vectors
from training.evaluation.systems import Combine
from training.ranking import TIE, Corpus, Floats, pad

DEPTH = 100  # of the lists that are kept
_CHUNK_SCORES = 1 << 22


class Found(NamedTuple):
    """What searching found; the first axis is the queries'."""

    ranks: Floats  # of the best target in the whole corpus, ties against
    top: list[list[int]]  # positions of the first pictures, ties against the targets
    target_similarity: list[float] | None  # None where several lists were fused
    random_similarity: list[float] | None


def retrieve(
    corpus: Corpus,
    vectors: dict[str, Vectors],
    texts: Sequence[tuple[str, ...]],
    targets: Sequence[Sequence[int]],
    combine: Combine,
) -> Found:
    """Searches each query's texts.

    Args:
        vectors: of every text, float32 ``[dim]``.
        targets: for each query the positions of its right pictures.
    """
    if combine == "rrf":
        return _fused(corpus, vectors, texts, targets)
    choose = _most_like_the_others if combine == "consistent" else _mean
    queries = np.stack([choose(np.stack([vectors[text] for text in group])) for group in texts])
    ranking = corpus.rank(queries, targets)
    top: list[list[int]] = []
    for chunk in _chunks(len(texts), len(corpus)):
        scores = torch.from_numpy(queries[chunk]).to(corpus.vectors.device) @ corpus.vectors.T
        top += _top(_lowered(scores, targets[chunk], TIE))
    return Found(ranking.rank, top, ranking.positive.tolist(), ranking.random.tolist())


def _fused(
    corpus: Corpus,
    vectors: dict[str, Vectors],
    texts: Sequence[tuple[str, ...]],
    targets: Sequence[Sequence[int]],
) -> Found:
    """Reciprocal rank fusion of a list for each text, over the whole corpus."""
    ranks: list[float] = []
    top: list[list[int]] = []
    for chunk in _chunks(len(texts), len(corpus)):
        fused = torch.zeros(len(texts[chunk]), len(corpus), dtype=torch.float64)
        for place in range(max(map(len, texts[chunk]))):
            having = [row for row, group in enumerate(texts[chunk]) if place < len(group)]
            asked = np.stack([vectors[texts[chunk][row][place]] for row in having])
            scores = torch.from_numpy(asked).to(corpus.vectors.device) @ corpus.vectors.T
            scores = _lowered(scores, [targets[chunk][row] for row in having], TIE)
            order = scores.argsort(dim=1, descending=True)
            places = torch.empty_like(order).scatter_(
                1, order, torch.arange(1, len(corpus) + 1).expand_as(order).contiguous()
            )
            fused[having] += 1 / (RRF_K + places.cpu().double())
        lowered = _lowered(fused, targets[chunk], 1e-12)
        positions, real = pad(targets[chunk], fused.device)
        best = lowered.gather(1, positions).masked_fill(~real, -torch.inf).amax(1, keepdim=True)
        others = lowered.scatter(1, positions, -torch.inf)
        ranks += (1 + (others >= best).sum(1)).tolist()
        top += _top(lowered)
    return Found(np.array(ranks, float), top, None, None)


def _mean(group: Vectors) -> Vectors:
    mean: Vectors = group.mean(0)
    return mean / max(float(np.linalg.norm(mean)), 1e-12)


def _most_like_the_others(group: Vectors) -> Vectors:
    """Universal self-consistency without a second call: the medoid of the rewrites' vectors."""
    chosen: Vectors = group[(group @ group.T).sum(1).argmax()]
    return chosen


def _lowered(scores: Tensor, targets: Sequence[Sequence[int]], by: float) -> Tensor:
    """Scores with the targets a tie lower, so that whatever scores alike comes before them."""
    for row, positions in enumerate(targets):
        scores[row, list(positions)] -= by
    return scores


def _top(scores: Tensor) -> list[list[int]]:
    top: list[list[int]] = scores.topk(min(DEPTH, scores.shape[1]), dim=1).indices.tolist()
    return top


def _chunks(queries: int, pictures: int) -> list[slice]:
    step = max(1, _CHUNK_SCORES // max(pictures, 1))
    return [slice(start, start + step) for start in range(0, queries, step)]
