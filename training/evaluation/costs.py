"""What models are asked for a query, and what that costs."""

from collections.abc import Sequence
from typing import NamedTuple

from training.evaluation.results import Cost


class Paid(NamedTuple):
    """What a model was asked, and what that took."""

    prompts: int = 0  # or pairs, of a cross-encoder
    read: int = 0  # tokens
    written: int = 0  # tokens; the ratings of groups, a dozen each at most, are not counted
    seconds: float = 0.0


def per_query(paid: Sequence[Paid], searches: int, queries: int) -> Cost:
    """The average of one query."""
    return Cost(
        prompts=sum(one.prompts for one in paid) / queries,
        prompt_tokens=sum(one.read for one in paid) / queries,
        written_tokens=sum(one.written for one in paid) / queries,
        llm_seconds=sum(one.seconds for one in paid) / queries,
        searches=searches / queries,
    )
