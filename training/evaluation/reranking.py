"""What was found, with its first pictures reranked as serving does it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from models.search.fusion import FusedHit
from models.search.options import CANDIDATES
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
from training.evaluation.costs import Paid
from training.evaluation.gallery import Gallery
from training.evaluation.retrieval import Found
from training.evaluation.systems import Reranker


class Answered(NamedTuple):
    """What a reranker said of one query's candidates, and what that cost."""

    values: Sequence[float | None]  # one for each text, the higher the better
    paid: Paid


Ask = Callable[[Sequence[Comparison]], list[Answered]]


class Reranking(NamedTuple):
    """How candidates are compared."""

    by: Reranker
    weight: float | None  # of a score beside the search's; None: the order is the reranker's alone
    ask: Ask
    candidates: int = CANDIDATES


class Reranked(NamedTuple):
    """The new order, and what it cost."""

    found: Found
    answers: list[Answered]  # of the queries that were reranked


def rerank_found(
    rows: Sequence[Row], plans: Sequence[Plan], found: Found, gallery: Gallery, how: Reranking
) -> Reranked:
    """Reranks the first pictures of each query."""
    first = [top[: how.candidates] for top in found.top]
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
        if how.weight is None:
            order = reranked([0.0] * len(scores), scores, 1.0)
        else:
            before = priors(_hits(found, number, len(first[number])), plans[number])
            order = reranked(before, scores, how.weight)
        new = [first[number][placed.place] for placed in order]
        top[number] = [*new, *found.top[number][len(new) :]]
        right = set(gallery.places(rows[number].targets)) & set(new)
        if right:
            ranks[number] = 1 + min(new.index(place) for place in right)
    nothing: list[float | None] = [None] * len(rows)
    return Reranked(
        # What the pictures are ordered by is no probability.
        found._replace(top=top, ranks=ranks, first_probability=nothing, first_without=nothing),
        list(answers.values()),
    )


def _hits(found: Found, number: int, count: int) -> list[FusedHit]:
    """The first pictures with their probabilities, if these are known."""
    p = found.top_probability[number] or [0.0] * count
    return [
        FusedHit(place, score, 0.0, ())
        for place, score in zip(found.top[number][:count], p[:count], strict=True)
    ]
