"""The search plan: what is searched for a query, how the lists are fused, and why.

This is the one place where that is decided. Serving, evaluation and the mteb model all run it.

A plan is made by a generator that does no work itself. It yields what it needs to know next, a
:class:`BestScore` or :class:`Answers`, and is sent the result. Serving looks these up for one query
at a time, evaluation for thousands at once (:mod:`models.search.many_plans`).
"""

from collections.abc import Callable, Generator, Sequence
from typing import Literal, NamedTuple, Protocol, TypeVar

from models.rewriter.protocol import Prompt
from models.rewriter.rewrites import Rewrite
from models.rewriter.tasks import MULTILINGUAL, choose_task
from models.search.composed import change_in_english, repeats
from models.search.fusion import Fusing
from models.search.gate import NO_WORDS, Decision, Gate, GateInput, decide
from models.search.long_text import Measures, readable_parts
from models.search.mixture import Component, Mixture, components
from models.search.negation import Unwanted
from models.search.normalise import has_words
from models.search.options import Fusion, RewriteMode
from models.search.query import Query, as_typed, prompts_for, task_of
from models.search.searches import Search, rewrite_searches, searches_for

Result = TypeVar("Result")


class PlanOptions(NamedTuple):
    """What a search may choose, with the defaults filled in."""

    rewrite: RewriteMode
    fusion: Fusion


class Setting(NamedTuple):
    """What a plan depends on besides the query."""

    encoder: Measures
    known_scores: Sequence[float] | None  # of the index; see IndexManifest
    gate_of: Callable[[str], Gate]  # by the task's name
    mixture_of: Callable[[str], Mixture]  # likewise
    rewrites: bool = True  # whether there is a rewriter at all
    sees_pictures: bool = False  # whether it reads pictures itself
    is_name: Callable[[str], bool] = lambda _: False  # whether a picture is called like this

    def mixture(self, query: Query) -> Mixture:
        """The mixture of the query's task."""
        return self.mixture_of(task_of(query).name if query.text else MULTILINGUAL.name)

    def tau(self, query: Query) -> float:
        """The temperature of the mixture."""
        return self.mixture(query).temperature(self.encoder.temperature)


class Answer(Protocol):
    """What the rewriter made of one prompt."""

    @property
    def rewrites(self) -> Sequence[Rewrite]:
        """The usable rewrites, the most probable first; none if it failed."""

    @property
    def reason(self) -> str:
        """Why there are none."""

    @property
    def adapter(self) -> str | None:
        """Name of the adapter that wrote them; None for the base model."""


class BestScore(NamedTuple):
    """Needed: the best picture's score in a search, or None if the index is empty."""

    search: Search


class Answers(NamedTuple):
    """Needed: the rewriter's :class:`Answer` to each prompt."""

    prompts: list[Prompt]


Need = BestScore | Answers
Given = float | None | Sequence[Answer]
Steps = Generator[Need, Given, Result]


class Rewriting(NamedTuple):
    """What became of a query before it is searched."""

    status: Literal["rewritten", "kept", "fallback"]
    reason: str
    rewrites: tuple[tuple[str, ...], ...] = ()  # one text each, or several with one mean vector
    probabilities: tuple[float | None, ...] = ()  # of each rewrite
    adapter: str | None = None
    parts: int = 1  # that the query was cut into for the language model


class Plan(NamedTuple):
    """The searches to make, how to fuse their lists, and why."""

    searches: list[Search]
    how: Fusing  # fusion "original" if nothing was rewritten
    rewriting: Rewriting
    typed: Search  # the search without rewriting
    alternate: Search | None = None  # what a change to a picture is searched with besides
    unwanted: Unwanted | None = None  # what is put last

    @classmethod
    def of(cls, typed: Search, rewriting: Rewriting, tau: float) -> "Plan":
        """A query that is searched as typed."""
        return cls([typed], Fusing("original", tau), rewriting, typed)

    @property
    def texts(self) -> dict[str, float | None]:
        """What is searched instead of the query, with the rewrites' probabilities.

        Empty if the query is searched.
        """
        if not self.rewriting.rewrites:
            return {}
        rewriting = self.rewriting
        texts: dict[str, float | None] = {}
        for rewrite, probability in zip(rewriting.rewrites, rewriting.probabilities, strict=True):
            for place, text in enumerate(rewrite):
                # The first of a rewrite's texts has its probability.
                texts.setdefault(text, None if place else probability)
        for text in self.alternate.texts if self.alternate else ():
            texts.setdefault(text, None)
        return texts

    @property
    def typed_weight(self) -> float:
        """The share of the search without rewriting in a mixture."""
        weights = zip(self.searches, self.how.weights, strict=False)
        return sum(weight for search, weight in weights if search is self.typed)

    @property
    def ranks_by_probability(self) -> bool:
        """Whether a hit's score is its probability, and not a sum of reciprocal ranks."""
        return self.how.fusion in ("mixture", "interleave") or len(self.searches) == 1

    @property
    def parts(self) -> int:
        """How many parts the query was cut into."""
        return self.rewriting.parts if self.rewriting.rewrites else max(len(self.typed.texts), 1)


def plan_search(query: Query, typed: Search, options: PlanOptions, setting: Setting) -> Steps[Plan]:
    """Plans the search for one query.

    Args:
        typed: the search without rewriting, from :func:`as_typed`.
    """
    tau = setting.tau(query)
    if query.text is None:
        return Plan.of(typed, Rewriting("kept", "a picture without words"), tau)
    if options.rewrite == "never":
        return Plan.of(typed, Rewriting("kept", "not requested"), tau)
    if not has_words(query.text):
        return Plan.of(typed, Rewriting("kept", NO_WORDS), tau)
    if query.reference:
        return (yield from _plan_change(query, typed, options, setting))
    decision = Decision(True, "requested", "other")
    if options.rewrite == "auto" or options.fusion in ("auto", "mixture"):
        decision = yield from gate_decision(query.text, typed, setting)
    known = not decision.rewrite  # the encoder knows the query as it was typed
    if known and options.rewrite == "auto":
        return Plan.of(typed, Rewriting("kept", decision.reason), tau)
    why = decision.reason if options.rewrite == "auto" else "requested"
    weight = 0.0
    if options.fusion in ("auto", "mixture"):
        weight = setting.mixture(query).typed[decision.kind]
    if known and weight:
        why = f"requested, and searched together with the query: {decision.reason}"
    rewriting = yield from rewrite_query(query, why, setting)
    if options.fusion not in ("auto", "mixture"):
        return _planned(typed, rewriting, Fusing(options.fusion, tau))
    return _mixture(typed, rewriting, tau, [Component(typed, weight)])


def _plan_change(
    query: Query, typed: Search, options: PlanOptions, setting: Setting
) -> Steps[Plan]:
    """A picture to be changed. The gate has no say: the encoder knows no "the same but"."""
    assert query.text
    assert query.reference
    caption = query.reference.caption
    mixture, tau = setting.mixture(query), setting.tau(query)
    rewriting = yield from rewrite_query(query, "a picture to be changed", setting)
    seen = setting.sees_pictures and query.reference.picture
    alternates = options.fusion in ("auto", "mixture", "interleave") and caption and not seen
    if not rewriting.rewrites or not alternates:
        if options.fusion in ("auto", "mixture"):
            return _mixture(typed, rewriting, tau)
        return _planned(typed, rewriting, Fusing(options.fusion, tau))
    # What a rewrite of the caption may have missed is searched besides: English words that the
    # encoder knows as they are, otherwise the picture.
    words = change_in_english(query.text)
    alternate, weight = Search("picture", (query.reference.vector,)), mixture.reference
    if words:
        as_words = as_typed(Query(words), setting.encoder)._replace(name="words")
        if not (yield from gate_decision(words, as_words, setting)).rewrite:
            alternate, weight = as_words, mixture.change
        rewriting = _with_change(rewriting, caption or "", words)
    if options.fusion == "interleave":
        return _planned(typed, rewriting, Fusing("interleave", tau), alternate)
    return _mixture(typed, rewriting, tau, [Component(alternate, weight)])


def _with_change(rewriting: Rewriting, caption: str, words: str) -> Rewriting:
    """A rewrite that repeats the caption left the change out: the words join it."""
    return rewriting._replace(
        rewrites=tuple(
            (*texts, words) if repeats(caption, " ".join(texts)) else texts
            for texts in rewriting.rewrites
        )
    )


def gate_decision(text: str, typed: Search, setting: Setting) -> Steps[Decision]:
    """What the gate says of a text."""
    best = yield BestScore(typed)
    assert best is None or isinstance(best, float)
    gate_input = GateInput(setting.encoder.text_length(text), best, setting.known_scores)
    return decide(text, gate_input, setting.gate_of(choose_task(text).name))


def rewrite_query(query: Query, why: str, setting: Setting) -> Steps[Rewriting]:
    """Rewrites a query, a long one in parts.

    Args:
        why: the reason that is reported.
    """
    if not setting.rewrites:
        return Rewriting("kept", f"{why}, but this server has no rewriter")
    if not has_words(query.text or ""):
        return Rewriting("kept", f"{why}, but {NO_WORDS}")
    prompts = prompts_for(query, setting.sees_pictures)
    if not prompts:
        return Rewriting("kept", f"{why}, but no caption says what the picture shows")
    if query.reference and not prompts[0].picture:
        why = f"{why}: {query.reference.caption}"
    answers = yield Answers(prompts)
    assert isinstance(answers, Sequence)
    return _rewriting(prompts, answers, why, setting.encoder)


def _rewriting(
    prompts: Sequence[Prompt], answers: Sequence[Answer], why: str, encoder: Measures
) -> Rewriting:
    written = [answer for answer in answers if answer.rewrites]
    if not written:
        return Rewriting("fallback", f"{why}, but {answers[0].reason}")
    if short := next((answer.reason for answer in written if answer.reason), ""):
        why = f"{why}; {short}"
    if len(prompts) == 1:
        rewrites = written[0].rewrites
        each = tuple(tuple(readable_parts(text, encoder)) for text, _ in rewrites)
        probabilities = tuple(probability for _, probability in rewrites)
        return Rewriting("rewritten", why, each, probabilities, written[0].adapter)
    if failed := next((answer for answer in answers if not answer.rewrites), None):
        count = len(answers) - len(written)
        why = f"{why}, but {count} of {len(answers)} parts as typed: {failed.reason}"
    own = zip(prompts, answers, strict=True)
    best = [
        answer.rewrites[0] if answer.rewrites else Rewrite(query.query) for query, answer in own
    ]
    joined = tuple(part for text, _ in best for part in readable_parts(text, encoder))
    return Rewriting("rewritten", why, (joined,), (None,), written[0].adapter, len(prompts))


def _planned(
    typed: Search, rewriting: Rewriting, how: Fusing, alternate: Search | None = None
) -> Plan:
    if not rewriting.rewrites:
        return Plan.of(typed, rewriting, how.tau)
    searches = searches_for(how.fusion, typed, rewriting.rewrites, alternate)
    return Plan(searches, how, rewriting, typed, alternate)


def _mixture(
    typed: Search, rewriting: Rewriting, tau: float, others: Sequence[Component] = ()
) -> Plan:
    """The mixture of the rewrites and of what else is searched with them."""
    if not rewriting.rewrites:
        return Plan.of(typed, rewriting, tau)
    written = rewrite_searches(typed, rewriting.rewrites)
    mixture = components(written, rewriting.probabilities, others)
    how = Fusing("mixture", tau, tuple(weight for _, weight in mixture))
    alternate = next((other.search for other in others if other.search is not typed), None)
    return Plan([search for search, _ in mixture], how, rewriting, typed, alternate)
