"""Reranking: the first hits in a new order, by how well what each one says fits the query.

The first hits of a search are its candidates. The language model gives each candidate's text a
score, and the candidates are put in the order of

    log p(picture | query) + weight * score

where p is the mixture's (:mod:`models.search.mixture`). By ``likelihood`` the score is
log p(query | text), see :mod:`models.rewriter.likelihood`, and the sum is a log-linear mixture.
A candidate without a text or a score keeps its place, and so does every hit behind the candidates.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import NamedTuple

from models.retriever.types import Metadata
from models.rewriter.tasks import (
    GROUP,
    HIGHEST,
    LIKELIHOOD,
    LIKELIHOOD_LONG,
    LONG,
    RERANK,
    Task,
    choose_task,
)
from models.search.composed import caption_of
from models.search.fusion import FusedHit
from models.search.normalise import has_words
from models.search.options import ComparedBy, RerankBy
from models.search.plan import Plan
from models.search.query import Query, as_one_line

_LEAST = 1e-37  # a probability, of which the logarithm is taken


def chosen(by: RerankBy) -> ComparedBy:
    """What `auto` stands for: the scorer that measures better (docs/reranking.md)."""
    return "likelihood" if by == "auto" else by


class Comparison(NamedTuple):
    """What a language model is asked to score."""

    by: str  # of ComparedBy; the evaluation has others
    task: str  # of the language model
    query: str
    texts: list[str]  # each once
    passes: int = 1  # over the texts, by group
    # For a model that sees them: image files. The texts are then their names, which are unique.
    pictures: Mapping[str, bytes] | None = None


def task_of(by: str, query: str) -> Task:
    """The task of the language model that compares texts for a query."""
    if by == "group":
        return RERANK
    return LIKELIHOOD_LONG if choose_task(query) is LONG else LIKELIHOOD


def text_of(metadata: Metadata, field: str | None = None) -> str | None:
    """What a candidate says: the value under a chosen key, or else its caption or its text.

    None if it says nothing.
    """
    if field is None:
        return caption_of(metadata) or caption_of({"caption": metadata.get("text")})
    value = metadata.get(field)
    return " ".join(value.split()) or None if isinstance(value, str) else None


def why_not(query: Query, plan: Plan) -> str | None:
    """Why the hits of a query keep their order; None if they can be reranked."""
    if query.text is None:
        return "a picture without words"
    if query.reference:
        return "a picture to be changed: its words do not say what the wanted one shows"
    if not has_words(query.text):
        return "the query has no letters or digits"
    if plan.unwanted:
        return "the query says what is not wanted"
    return None


def comparison(
    by: str, query: str, texts: Sequence[str | None], passes: int = 1
) -> Comparison | None:
    """What to ask for the candidates; None if fewer than two of them say anything.

    Args:
        passes: how often each text is rated, by group.
    """
    said = [as_one_line(text) for text in texts if text]
    if len(said) < 2:
        return None
    distinct = list(dict.fromkeys(said))
    return Comparison(by, task_of(by, query).name, as_one_line(query), distinct, passes)


def comparison_of_pictures(
    query: str, pictures: Sequence[bytes | None], passes: int = 1
) -> tuple[Comparison | None, list[str | None]]:
    """What to ask a model that sees the candidates; None if fewer than two can be shown.

    Returns:
        also the name of each candidate, for :func:`scores_of`: the same picture has the same one.
    """
    names = [hashlib.sha256(data).hexdigest() if data else None for data in pictures]
    shown = {name: data for name, data in zip(names, pictures, strict=True) if name and data}
    if len(shown) < 2:
        return None, names
    return Comparison("group", RERANK.name, as_one_line(query), list(shown), passes, shown), names


def groups_of(count: int, passes: int = 1) -> list[list[int]]:
    """The texts that are rated together: each is in one group of every pass.

    The first pass deals them out like cards, so that every group has some of the best. Each further
    one shuffles them first, the same way every time: a text then has other places and neighbours.
    """
    groups: list[list[int]] = []
    number = math.ceil(count / GROUP)
    for again in range(passes):
        places = list(range(count))
        if again:
            Random(again).shuffle(places)
        groups += [places[start::number] for start in range(number)]
    return groups


def ratings_of(
    count: int, groups: Sequence[Sequence[int]], ratings: Sequence[Sequence[float | None]]
) -> list[float | None]:
    """The mean rating of each text; None for one that no group has rated."""
    given: list[list[float]] = [[] for _ in range(count)]
    for group, own in zip(groups, ratings, strict=True):
        for place, rating in zip(group, own, strict=True):
            if rating is not None:
                given[place].append(rating)
    return [sum(own) / len(own) if own else None for own in given]


def scores_of(
    texts: Sequence[str | None], asked: Comparison, scores: Sequence[float | None]
) -> list[float | None]:
    """Each candidate's score; None if it says nothing, or if there is no finite score.

    Args:
        scores: of the texts of ``asked``. A list of another length says nothing about any of them.
    """
    if len(scores) != len(asked.texts):
        return [None] * len(texts)
    known = dict(zip(asked.texts, scores, strict=True))
    found = [known.get(as_one_line(text)) if text else None for text in texts]
    return [score if score is not None and math.isfinite(score) else None for score in found]


def priors(hits: Sequence[FusedHit], plan: Plan) -> list[float]:
    """What the search says of each hit, as a log probability.

    Where the scores of a fusion are none, it is that of the reciprocal rank.
    """
    if plan.ranks_by_probability and plan.how.fusion != "interleave":
        return [math.log(max(hit.score, _LEAST)) for hit in hits]
    return [-math.log(rank) for rank in range(1, len(hits) + 1)]


class Placed(NamedTuple):
    """A candidate in the new order."""

    place: int  # in the old one
    score: float | None  # that it is ordered by; None if it kept its place


def reranked(
    before: Sequence[float], scores: Sequence[float | None], weight: float
) -> list[Placed]:
    """The new order: every candidate once, equal ones as they were.

    Args:
        before: of each candidate, from :func:`priors`.
        scores: the language model's.
        weight: of its score.
    """
    total = {
        place: before[place] + weight * score
        for place, score in enumerate(scores)
        if score is not None
    }
    best = iter(sorted(total, key=lambda place: -total[place]))
    order = [next(best) if place in total else place for place in range(len(scores))]
    return [Placed(place, total.get(place)) for place in order]


def relevance(by: ComparedBy, scores: Sequence[float | None]) -> list[float | None]:
    """Each score from 0 to 1; None where there is none.

    By likelihood it is p(text | query), if one of the texts is meant and each is as likely before:
    the softmax of log p(query | text). By group it is the rating as a share of the highest one.
    """
    known = [score for score in scores if score is not None]
    if not known:
        return [None] * len(scores)
    if by == "group":
        return [None if score is None else score / HIGHEST for score in scores]
    highest = max(known)
    total = sum(math.exp(score - highest) for score in known)
    return [None if score is None else math.exp(score - highest) / total for score in scores]
