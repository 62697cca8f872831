"""Texts to ranks and to lists of pictures, for one text a query or for several."""

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from models.retriever.types import Vectors
from models.search.fusion import RRF_K
from training.evaluation.systems import Combine
from training.rewards.ranking import TIE, Corpus, Floats, pad

Text = TypeVar("Text", bound=Hashable)  # or whatever else names a vector to search with
Positions = Sequence[Sequence[int]]  # of pictures, for each query

DEPTH = 100  # of the lists that are kept
_CHUNK_SCORES = 1 << 22


class Found(NamedTuple):
    """What searching found; the first axis is the queries'."""

    ranks: Floats  # of the best target in the whole corpus, ties against
    top: list[list[int]]  # positions of the first pictures, ties against the targets
    target_similarity: list[float] | None  # None where several lists were fused
    random_similarity: list[float] | None
    subset_ranks: list[int] | None  # of the best target in the query's group; None without groups


def retrieve(
    corpus: Corpus,
    vectors: Mapping[Text, Vectors],
    texts: Sequence[tuple[Text, ...]],
    targets: Positions,
    combine: Combine,
    left_out: Positions | None = None,
    groups: Positions | None = None,
) -> Found:
    """Searches each query's texts.

    Args:
        vectors: of every text, float32 ``[dim]``.
        targets: for each query the positions of its right pictures.
        left_out: pictures that are no answer to a query, ranked and listed nowhere; no targets.
        groups: the few pictures, targets among them, that are ranked once more on their own.
    """
    left_out = left_out or [()] * len(texts)
    if combine == "rrf" or (combine == "interleave" and max(map(len, texts)) > 1):
        return _fused(corpus, vectors, texts, targets, combine, left_out, groups)
    choose = _most_like_the_others if combine == "consistent" else mean_vector
    queries = np.stack([choose(np.stack([vectors[text] for text in group])) for group in texts])
    ranking = corpus.rank(queries, targets, left_out)
    top: list[list[int]] = []
    subset: list[int] = []
    for chunk in _chunks(len(texts), len(corpus)):
        scores = torch.from_numpy(queries[chunk]).to(corpus.vectors.device) @ corpus.vectors.T
        scores = _lowered(scores, targets[chunk], left_out[chunk], TIE)
        top += _top(scores)
        subset += _ranks_in(groups[chunk], scores, targets[chunk]) if groups else []
    similar, random = ranking.positive.tolist(), ranking.random.tolist()
    return Found(ranking.rank, top, similar, random, subset if groups else None)


def _fused(
    corpus: Corpus,
    vectors: Mapping[Text, Vectors],
    texts: Sequence[tuple[Text, ...]],
    targets: Positions,
    combine: Combine,
    left_out: Positions,
    groups: Positions | None,
) -> Found:
    """A list for each text over the whole corpus, by reciprocal rank or in turns."""
    most = max(map(len, texts))
    ranks: list[float] = []
    top: list[list[int]] = []
    subset: list[int] = []
    for chunk in _chunks(len(texts), len(corpus)):
        fused = torch.zeros(len(texts[chunk]), len(corpus), dtype=torch.float64)
        turn = torch.full_like(fused, -torch.inf)  # less the place that a picture is taken at
        for place in range(max(map(len, texts[chunk]))):
            having = [row for row, group in enumerate(texts[chunk]) if place < len(group)]
            asked = np.stack([vectors[texts[chunk][row][place]] for row in having])
            scores = torch.from_numpy(asked).to(corpus.vectors.device) @ corpus.vectors.T
            right, out = ([part[chunk][row] for row in having] for part in (targets, left_out))
            order = _lowered(scores, right, out, TIE).argsort(dim=1, descending=True)
            places = torch.empty_like(order).scatter_(
                1,
                order,
                torch.arange(1, len(corpus) + 1, device=order.device).expand_as(order).contiguous(),
            )
            fused[having] += 1 / (RRF_K + places.cpu().double())
            turn[having] = turn[having].maximum(-(most * places.cpu().double() + place))
        lowered = _lowered(
            turn if combine == "interleave" else fused, targets[chunk], left_out[chunk], 1e-12
        )
        others = lowered.clone()
        others[_cells(targets[chunk])] = -torch.inf
        ranks += (1 + (others >= _best(lowered, targets[chunk])).sum(1)).tolist()
        top += _top(lowered)
        subset += _ranks_in(groups[chunk], lowered, targets[chunk]) if groups else []
    return Found(np.array(ranks, float), top, None, None, subset if groups else None)


def mean_vector(group: Vectors) -> Vectors:
    """Of vectors ``[n, dim]``, at unit length again; of one the vector as it is."""
    mean: Vectors = group.mean(0)
    if len(group) == 1:
        return mean
    return mean / max(float(np.linalg.norm(mean)), 1e-12)


def _most_like_the_others(group: Vectors) -> Vectors:
    """Universal self-consistency without a second call: the medoid of the rewrites' vectors."""
    chosen: Vectors = group[(group @ group.T).sum(1).argmax()]
    return chosen


def _lowered(scores: Tensor, targets: Positions, left_out: Positions, by: float) -> Tensor:
    """Scores with the targets a tie lower, so that whatever scores alike comes before them."""
    scores[_cells(targets)] -= by
    scores[_cells(left_out)] = -torch.inf
    return scores


def _top(scores: Tensor) -> list[list[int]]:
    """The first pictures; what is left out comes last and is cut off."""
    found = scores.topk(min(DEPTH, scores.shape[1]), dim=1)
    counts = torch.isfinite(found.values).sum(1).tolist()
    return [row[:count] for row, count in zip(found.indices.tolist(), counts, strict=True)]


def _ranks_in(groups: Positions, lowered: Tensor, targets: Positions) -> list[int]:
    """Of the best target among its group's pictures alone."""
    others = [set(group) - set(right) for group, right in zip(groups, targets, strict=True)]
    positions, real = pad([list(group) for group in others], lowered.device)
    above = (lowered.gather(1, positions) >= _best(lowered, targets)) & real
    ranks: list[int] = (1 + above.sum(1)).tolist()
    return ranks


def _best(lowered: Tensor, targets: Positions) -> Tensor:
    """The score of each query's best target, ``[q, 1]``."""
    positions, real = pad(targets, lowered.device)
    return lowered.gather(1, positions).masked_fill(~real, -torch.inf).amax(1, keepdim=True)


def _cells(positions: Positions) -> tuple[Tensor, Tensor]:
    """Row and column of each query's pictures, to index scores with."""
    rows = [row for row, group in enumerate(positions) for _ in group]
    columns = [position for group in positions for position in group]
    return torch.tensor(rows, dtype=torch.long), torch.tensor(columns, dtype=torch.long)


def _chunks(queries: int, pictures: int) -> list[slice]:
    step = max(1, _CHUNK_SCORES // max(pictures, 1))
    return [slice(start, start + step) for start in range(0, queries, step)]
