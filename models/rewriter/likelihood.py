"""Query likelihood: how probable the typed words are, given what a picture shows.

It is the rewriter's task turned round: from the English caption to the words in the language of the
query. A language model recognises many words that it cannot translate. A search is then a noisy
channel: p(picture | query) is proportional to p(query | picture) p(picture), as in Ponte and Croft,
1998 (A Language Modeling Approach to Information Retrieval). No training is needed.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from models.rewriter.tasks import LONG, MULTILINGUAL, Task

_QUERY_CHARS = 240  # that are compared; every token is scored once for each candidate


class Continuation(NamedTuple):
    """A text whose probability is asked for, after each of several prompts."""

    prompts: list[str]
    text: str  # after which the line ends


def turned(task: Task, instruction: str) -> Task:
    """A task from its answers to its queries."""
    asked, answered = task.labels
    return replace(
        task,
        instruction=instruction,
        labels=(answered, asked),
        examples=tuple((answer, query) for query, answer in task.examples),
    )


# The engine caches the beginning that all prompts share in blocks of 32 tokens. Of Gemma's tokens
# these are 483 and 128, so that three at most have to be computed again for each candidate.
TURNED = {
    "multilingual": turned(
        MULTILINGUAL, "Dictionary of English words and their meaning in other languages."
    ),
    "long": turned(LONG, "Say at length what the picture of this name shows."),
}


def continuation(task: Task, query: str, texts: Sequence[str]) -> Continuation:
    """What to ask a language model to learn log p(query | text) for each text.

    Args:
        task: one of :data:`TURNED`.
    """
    shown = " ".join(query.split())[:_QUERY_CHARS]
    return Continuation([task.prompt(text) for text in texts], f" {shown}")
