"""Whether a search probably found what was meant."""

from models.search.mixture import Mixture
from models.search.normalise import has_words
from models.search.plan import Plan
from models.search.query import Query


def is_confident(query: Query, plan: Plan, score: float, mixture: Mixture) -> bool:
    """Whether the first hit is more likely right than wrong, given its score.

    `grape eval --fit-mixture` finds the score; see :mod:`training.evaluation.mixture_fit`.
    """
    if plan.unwanted and not plan.unwanted.rest:
        return False  # nothing says what is wanted
    says_something = query.text is None or has_words(query.text)
    return says_something and plan.ranks_by_probability and score >= mixture.confident
