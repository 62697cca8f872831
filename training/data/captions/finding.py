"""Whether a query finds its picture, by the frozen retriever: the check that needs no person.

The model rewrites the query on the prompt with examples, as it would be served without an adapter.
The best of its rewrites must find the picture. So a query is kept only if what the model wrote in
another language still says what the picture shows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.rewriter.answers import read_rewrite
from models.rewriter.protocol import Completion, Prompt, Sampling
from models.rewriter.tasks import TASKS, choose_task
from models.search.composed import repeats
from training.data.captions.checks import Written
from training.data.captions.drafts import Pictured
from training.data.captions.kept_answers import KeptAnswers
from training.rewards.scorer import Scorer

_NEVER = np.inf


class Found(NamedTuple):
    """The rewrite of a query that finds its picture best."""

    rewrite: str
    rank: float  # infinite if there is no rewrite


async def found_by_rewrites(
    written: Sequence[Written], answers: KeptAnswers, scorer: Scorer, rewrites: int
) -> list[Found]:
    """For each query the best of its rewrites.

    Args:
        rewrites: that the model is asked for.
    """
    prompts = [Prompt(TASKS[task_of(one)], one.asked) for one in written]
    completions = await answers.ask(prompts, Sampling(rewrites), "Rewriting what was written")
    return best_rewrites(written, completions, scorer)


def task_of(written: Written) -> str:
    """The task that a query is served as."""
    return "composed" if written.draft.reference else choose_task(written.query).name


def best_rewrites(
    written: Sequence[Written], completions: Sequence[Sequence[Completion]], scorer: Scorer
) -> list[Found]:
    """Ranks every usable rewrite in the whole corpus, all in one batch.

    A rewrite of a change is none if it leaves the change out, or if the reference fits it at least
    as well as the target: then the target ranks high only because it is near.
    """
    texts: list[str] = []
    owners: list[int] = []
    for number, (one, some) in enumerate(zip(written, completions, strict=True)):
        for text in dict.fromkeys(read_rewrite(answer.text) for answer in some):
            reference = one.draft.reference
            if text and not (reference and repeats(reference.caption, text)):
                texts.append(text)
                owners.append(number)
    best = [Found("", _NEVER)] * len(written)
    if not texts:
        return best
    drafts = [written[owner].draft for owner in owners]
    ranking = scorer.rank(texts, [[draft.target.id] for draft in drafts])
    # Without a reference the target itself, which fits exactly as well: only changes are compared.
    nearest = scorer.rank(texts, [[(draft.reference or draft.target).id] for draft in drafts])
    moved = ranking.positive > nearest.positive
    for place, owner in enumerate(owners):
        rank = float(ranking.rank[place])
        usable = moved[place] or not drafts[place].reference
        if usable and rank < best[owner].rank:
            best[owner] = Found(texts[place], rank)
    return best


def found_by_captions(pictures: Sequence[Pictured], scorer: Scorer) -> list[float]:
    """The rank of each picture for its own caption."""
    if not pictures:
        return []
    ranks: list[float] = scorer.rank(
        [picture.caption for picture in pictures], [[picture.id] for picture in pictures]
    ).rank.tolist()
    return ranks
