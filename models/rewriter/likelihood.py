"""Query likelihood: how probable the typed words are, given what a picture shows.

It is the rewriter's task turned round: from the English caption to the words in the language of the
query. A language model recognises many words that it cannot translate. A search is then a noisy
channel: p(picture | query) is proportional to p(query | picture) p(picture), as in Ponte and Croft,
1998 (A Language Modeling Approach to Information Retrieval). No training is needed.
"""

from collections.abc import Sequence
from typing import NamedTuple

from models.rewriter.tasks import Task

_QUERY_CHARS = 240  # that are compared; every token is scored once for each candidate


class Continuation(NamedTuple):
    """A text whose probability is asked for, after each of several prompts."""

    prompts: list[str]
    text: str  # after which the line ends


def continuation(task: Task, query: str, texts: Sequence[str]) -> Continuation:
    """What to ask a language model to learn log p(query | text) for each text.

    Args:
        task: one that is turned round.
    """
    shown = " ".join(query.split())[:_QUERY_CHARS]
    return Continuation([task.prompt(text) for text in texts], f" {shown}")
