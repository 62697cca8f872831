"""What was found, with its first pictures reranked as serving does it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from models.search.compare import read_for
from models.search.fusion import FusedHit
from models.search.mixture import Mixture
from models.search.options import CANDIDATES, ComparedBy
from models.search.plan import Plan
from models.search.query import Query
from models.search.rerank import (
    Comparison,
    comparison,
    priors,
    reranked,
    scores_of,
    text_of,
    why_not,
)
from training.data.rows import Row
from training.evaluation.gallery import Gallery
from training.evaluation.retrieval import Found
from training.stages.scoring import Scores

Ask = Callable[[Sequence[Comparison]], list[Scores]]


class Reranked(NamedTuple):
    """The new order, and what it cost."""

    found: Found
    prompts: list[str]  # that the model read
    seconds: float  # of the engine, one query after the other


def rerank_found(
    rows: Sequence[Row], plans: Sequence[Plan], found: Found, gallery: Gallery,
    how: "Reranking",
) -> Reranked:  # fmt: skip
    """Reranks the first pictures of each query."""
    first = [top[:CANDIDATES] for top in found.top]
    texts = [[text_of(item.record) for item in gallery.index.items.at(places)] for places in first]
    asked = {}
    for number, (row, plan) in enumerate(zip(rows, plans, strict=True)):
        query = Query(row.query, gallery.reference(row))
        if why_not(query, plan) is None and query.text:
            compared = comparison(how.by, query.text, texts[number])
            if compared:
                asked[number] = compared
    answers = dict(zip(asked, how.ask(list(asked.values())), strict=True))
    top, ranks = list(found.top), found.ranks.copy()
    for number, compared in asked.items():
        scores = scores_of(texts[number], compared, answers[number].values)
        before = priors(_hits(found, number, len(first[number])), plans[number])
        order = reranked(before, scores, how.mixture.rerank[how.by])
        new = [first[number][placed.place] for placed in order]
        top[number] = [*new, *found.top[number][len(new) :]]
        right = set(gallery.places(rows[number].targets)) & set(new)
        if right:
            ranks[number] = 1 + min(new.index(place) for place in right)
    nothing: list[float | None] = [None] * len(rows)
    return Reranked(
        # What the pictures are ordered by is no probability.
        found._replace(top=top, ranks=ranks, first_probability=nothing, first_without=nothing),
        [text for compared in asked.values() for text in read_for(compared)],
        float(np.sum([answer.seconds for answer in answers.values()])),
    )


class Reranking(NamedTuple):
    """How candidates are compared."""

    by: ComparedBy
    mixture: Mixture
    ask: Ask


def _hits(found: Found, number: int, count: int) -> list[FusedHit]:
    """The first pictures with their probabilities, if these are known."""
    p = found.top_probability[number] or [0.0] * count
    return [
        FusedHit(place, score, 0.0, ())
        for place, score in zip(found.top[number][:count], p[:count], strict=True)
    ]
