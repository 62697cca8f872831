"""The search plan of a query that says what is not wanted."""

from bisect import bisect_left

from models.search.negation import Unwanted, read_negation
from models.search.plan import (
    BestScore,
    Plan,
    PlanOptions,
    Setting,
    Steps,
    gate_decision,
    plan_search,
    rewrite_query,
)
from models.search.query import Query, as_typed
from models.search.searches import Search

# Of the known queries, those that score lowest: what scores less is not known to the encoder.
_UNKNOWN = 0.05


def plan_query(query: Query, typed: Search, options: PlanOptions, setting: Setting) -> Steps[Plan]:
    """Plans the search for one query; pictures of what it says is not wanted come last.

    A negation that belongs to a name, such as "no entry", is searched as any query.

    Args:
        typed: the search without rewriting, from :func:`as_typed`.
    """
    plan = yield from plan_search(query, typed, options, setting)
    if not query.text or query.reference or options.rewrite == "never":
        return plan
    negation = read_negation(query.text)
    if negation is None:
        return plan
    whole = _first_text(plan, query.text)
    if (yield from _is_known_name(whole, setting)):
        return plan
    thing = yield from _in_english(negation.thing, setting)
    if thing is None or _says_it_otherwise(whole, thing):
        return plan
    rest = None
    if negation.rest:
        wanted = Query(negation.rest)
        plan = yield from plan_search(wanted, as_typed(wanted, setting.encoder), options, setting)
        rest = Search("rest", (_first_text(plan, negation.rest),))
    said = read_negation(whole)
    return _with_unwanted(plan, thing, said.affirmed if said else whole, rest)


def _with_unwanted(plan: Plan, thing: str, affirmed: str, rest: Search | None) -> Plan:
    """The plan, with pictures of the thing and of the affirmed query put last."""
    texts = [thing, affirmed, *([f"{rest.texts[0]} {thing}"] if rest else [])]
    like = tuple(Search("unwanted", (text,)) for text in dict.fromkeys(texts))
    why = f"{plan.rewriting.reason}; pictures like {thing!r} come last"
    return plan._replace(
        rewriting=plan.rewriting._replace(reason=why), unwanted=Unwanted(like, rest)
    )


def _first_text(plan: Plan, asked: str) -> str:
    return plan.rewriting.rewrites[0][0] if plan.rewriting.rewrites else asked


def _in_english(text: str, setting: Setting) -> Steps[str | None]:
    """A text that the encoder knows. None if it needs a rewrite and there is none."""
    query = Query(text)
    decision = yield from gate_decision(text, as_typed(query, setting.encoder), setting)
    if not decision.rewrite:
        return text
    rewriting = yield from rewrite_query(query, decision.reason, setting)
    return rewriting.rewrites[0][0] if rewriting.rewrites else None


def _is_known_name(whole: str, setting: Setting) -> Steps[bool]:
    """Whether English words are the name of something, negation and all.

    A picture called "no entry" is found by these words better than any is by "entry", and as well
    as others are by words that the encoder knows.
    """
    negation = read_negation(whole)
    if negation is None:
        return False
    score = yield from _best_score(whole)
    affirmed = yield from _best_score(negation.affirmed)
    known = setting.known_scores
    share = bisect_left(known, score) / len(known) if known else 1.0
    return score > affirmed and share >= _UNKNOWN


def _says_it_otherwise(whole: str, thing: str) -> bool:
    """Whether a rewrite has no negation and does not name the thing, such as "leafless tree".

    If it names the thing, the language model left the negation out.
    """
    words = set(whole.casefold().split())
    return read_negation(whole) is None and words.isdisjoint(thing.casefold().split())


def _best_score(text: str) -> Steps[float]:
    score = yield BestScore(Search("query", (text,)))
    assert score is None or isinstance(score, float)
    return score or 0.0
