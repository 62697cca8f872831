"""The search plan of a query that says what is not wanted."""

from bisect import bisect_left
from collections.abc import Sequence

from models.rewriter.tasks import COMPOSED
from models.search.negation import Negation, Unwanted, read_negation
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
from models.search.query import Query, as_typed, task_of
from models.search.searches import Search

# Chosen on the demo's names with a negation and on `demo-negations`; see docs/queries.md.
_UNKNOWN = 0.01  # share of the known queries: what scores lower is not known to the encoder
_MEANINGS = 3  # rewrites that may be the name
_NAME_NOTHING = frozenset(["a", "an", "the", "with", "of", "in", "on", "at", "and", "to", "for"])
_GUESSES = 8  # rewrites of what is not wanted


def plan_query(query: Query, typed: Search, options: PlanOptions, setting: Setting) -> Steps[Plan]:
    """Plans the search for one query; pictures of what it says is not wanted come last.

    A negation that belongs to a name, such as "no entry", is searched as any query: what a picture
    of the index is called, and what seems to be a name that the encoder knows.

    Args:
        typed: the search without rewriting, from :func:`as_typed`.
    """
    plan = yield from plan_search(query, typed, options, setting)
    if not query.text or options.rewrite == "never" or _changes_a_picture(query):
        return plan
    negation = read_negation(query.text)
    if negation is None or setting.is_name(query.text):
        return plan
    whole = _texts(plan, query.text)
    if (yield from _is_known_name(whole[:_MEANINGS], negation, setting)):
        return plan
    foreign = bool(plan.rewriting.rewrites)  # then a part of it is foreign too: "chat" is a cat
    guesses = yield from _in_english(negation.thing, foreign, setting)
    # A wrong guess would put last what is wanted: of "two daughters, no mum" the daughters.
    guesses = guesses[: 1 if negation.rest else _GUESSES]
    guesses += _said_to_be_missing(plan, negation)
    if not guesses:
        return plan
    if _says_it_otherwise(whole[0], guesses):
        # "Leafless tree" is searched as it is; only what names the leaves comes last.
        named = [text for text in whole if not _says_it_otherwise(text, guesses)]
        return _with_unwanted(plan, [*guesses, *named], whole[0])
    if negation.rest is None:
        return _with_unwanted(plan, [*guesses, *map(_affirmed, whole)], None)
    wanted = Query(negation.rest)
    options = options._replace(rewrite="always") if foreign else options
    plan = yield from plan_search(wanted, as_typed(wanted, setting.encoder), options, setting)
    rest = _texts(plan, negation.rest)[0]
    return _with_unwanted(plan, [*guesses, _affirmed(whole[0]), f"{rest} {guesses[0]}"], rest)


def _said_to_be_missing(plan: Plan, asked: Negation) -> list[str]:
    """The things that rewrites of the whole query say are not wanted, in the same form as it."""
    found = [read_negation(texts[0]) for texts in plan.rewriting.rewrites]
    return [each.thing for each in found if each and (each.rest is None) == (asked.rest is None)]


def _changes_a_picture(query: Query) -> bool:
    """What a picture should be without is said to the language model, with its caption."""
    return task_of(query).name == COMPOSED.name


def _with_unwanted(plan: Plan, unwanted: Sequence[str], rest: str | None) -> Plan:
    """The plan, with pictures that resemble the unwanted texts put last."""
    like = tuple(Search("unwanted", (text,)) for text in dict.fromkeys(unwanted))
    others = f" and {len(like) - 1} more" if len(like) > 1 else ""
    why = f"{plan.rewriting.reason}; pictures like {unwanted[0]!r}{others} come last"
    return plan._replace(
        rewriting=plan.rewriting._replace(reason=why),
        unwanted=Unwanted(like, Search("rest", (rest,)) if rest else None),
    )


def _texts(plan: Plan, asked: str) -> list[str]:
    """The query in English, the most probable form first."""
    return [texts[0] for texts in plan.rewriting.rewrites] or [asked]


def _affirmed(text: str) -> str:
    negation = read_negation(text)
    return negation.affirmed if negation else text


def _in_english(text: str, foreign: bool, setting: Setting) -> Steps[list[str]]:
    """What the text may be to the encoder. Nothing if it needs a rewrite and there is none."""
    query = Query(text)
    if not foreign:
        decision = yield from gate_decision(text, as_typed(query, setting.encoder), setting)
        if not decision.rewrite:
            return [text]
    rewriting = yield from rewrite_query(query, "what is not wanted", setting)
    return [texts[0] for texts in rewriting.rewrites]


def _is_known_name(meanings: Sequence[str], asked: Negation, setting: Setting) -> Steps[bool]:
    """Whether English words are the name of something, negation and all.

    A picture called "no entry" is found by these words better than any is by "entry", and as well
    as others are by words that the encoder knows. "No beard" is no name for a man without one.
    """
    known = setting.known_scores
    for text in meanings:
        negation = read_negation(text)
        if negation and (negation.rest is None) == (asked.rest is None):
            score = yield from _best_score(text)
            affirmed = yield from _best_score(negation.affirmed)
            share = bisect_left(known, score) / len(known) if known else 1.0
            if score > affirmed and share >= _UNKNOWN:
                return True
    return False


def _says_it_otherwise(whole: str, guesses: Sequence[str]) -> bool:
    """Whether a rewrite has no negation and does not name the thing, such as "leafless tree".

    If it names all of a guess, with or without the s of a plural, the language model left the
    negation out.
    """
    if read_negation(whole) is not None:
        return False
    words = set(whole.casefold().split())
    words |= {word + "s" for word in words} | {word.removesuffix("s") for word in words}
    things = [set(guess.casefold().split()) - _NAME_NOTHING for guess in guesses]
    return not any(thing and thing <= words for thing in things)


def _best_score(text: str) -> Steps[float]:
    score = yield BestScore(Search("query", (text,)))
    assert score is None or isinstance(score, float)
    return score or 0.0
