"""The search plan: what is searched for a query, how the lists are fused, and why.

This is the one place where that is decided. Serving, evaluation and the mteb model all run it.

A plan is made by a generator that does no work itself. It yields what it needs to know next, a
:class:`BestScore` or :class:`Answers`, and is sent the result. Serving looks these up for one query
at a time, evaluation for thousands at once (:func:`make_plans`).
"""

from collections.abc import Callable, Generator, Sequence
from typing import Literal, NamedTuple, Protocol, TypeVar

from models.rewriter.protocol import Prompt
from models.rewriter.tasks import choose_task
from models.search.composed import change_in_english, repeats
from models.search.gate import Decision, Gate, GateInput, decide
from models.search.long_text import Measures, readable_parts
from models.search.options import Fusion, RewriteMode
from models.search.query import Query, as_typed, prompts_for
from models.search.searches import Search, searches_for

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
    rewrites: bool = True  # whether there is a rewriter at all
    sees_pictures: bool = False  # whether it reads pictures itself


class Answer(Protocol):
    """What the rewriter made of one prompt."""

    @property
    def texts(self) -> Sequence[str]:
        """The usable rewrites, each once; none if it failed."""

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
    adapter: str | None = None
    parts: int = 1  # that the query was cut into for the language model


class Plan(NamedTuple):
    """The searches to make, how to fuse their lists, and why."""

    searches: list[Search]
    fusion: Fusion  # "original" if nothing was rewritten
    rewriting: Rewriting
    typed: Search  # the search without rewriting
    alternate: Search | None = None  # what is searched in turns with the rewrites

    @classmethod
    def of(cls, typed: Search, rewriting: Rewriting) -> "Plan":
        """A query that is searched as typed."""
        return cls([typed], "original", rewriting, typed)

    @property
    def texts(self) -> list[str]:
        """What is searched instead of the query; empty if the query is searched."""
        if not self.rewriting.rewrites:
            return []
        written = [text for rewrite in self.rewriting.rewrites for text in rewrite]
        others = self.alternate.texts if self.alternate else ()
        return list(dict.fromkeys([*written, *others]))

    @property
    def parts(self) -> int:
        """How many parts the query was cut into."""
        return self.rewriting.parts if self.rewriting.rewrites else max(len(self.typed.texts), 1)


def plan_search(query: Query, typed: Search, options: PlanOptions, setting: Setting) -> Steps[Plan]:
    """Plans the search for one query.

    Args:
        typed: the search without rewriting, from :func:`as_typed`.
    """
    if query.text is None:
        return Plan.of(typed, Rewriting("kept", "a picture without words"))
    if options.rewrite == "never":
        return Plan.of(typed, Rewriting("kept", "not requested"))
    if query.reference:
        return (yield from _plan_change(query, typed, options, setting))
    decision = Decision(True, "requested")
    if options.rewrite == "auto" or options.fusion == "auto":
        decision = yield from gate_decision(query.text, typed, setting)
    known = not decision.rewrite  # the encoder knows the query as it was typed
    if known and options.rewrite == "auto":
        return Plan.of(typed, Rewriting("kept", decision.reason))
    why = decision.reason if options.rewrite == "auto" else "requested"
    if known:
        why = f"requested, and searched together with the query: {decision.reason}"
    rewriting = yield from rewrite_query(query, why, setting)
    return _planned(typed, rewriting, _fusion(options.fusion, known))


def _plan_change(
    query: Query, typed: Search, options: PlanOptions, setting: Setting
) -> Steps[Plan]:
    """A picture to be changed. The gate has no say: the encoder knows no "the same but"."""
    assert query.text
    assert query.reference
    caption = query.reference.caption
    rewriting = yield from rewrite_query(query, "a picture to be changed", setting)
    seen = setting.sees_pictures and query.reference.picture
    alternates = options.fusion in ("auto", "interleave") and caption is not None and not seen
    if not rewriting.rewrites or not alternates:
        return _planned(typed, rewriting, _fusion(options.fusion, known=False))
    # What a rewrite of the caption may have missed is searched in turns with it: English words
    # that the encoder knows as they are, otherwise the picture.
    words = change_in_english(query.text)
    alternate = Search("picture", (query.reference.vector,))
    if words:
        as_words = as_typed(Query(words), setting.encoder)._replace(name="words")
        if not (yield from gate_decision(words, as_words, setting)).rewrite:
            alternate = as_words
        # A rewrite that repeats the caption left the change out: the words join it.
        rewriting = rewriting._replace(
            rewrites=tuple(
                (*texts, words) if repeats(caption or "", " ".join(texts)) else texts
                for texts in rewriting.rewrites
            )
        )
    return _planned(typed, rewriting, _fusion(options.fusion, known=False, turns=True), alternate)


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
    written = [answer for answer in answers if answer.texts]
    if not written:
        return Rewriting("fallback", f"{why}, but {answers[0].reason}")
    if len(prompts) == 1:
        each = tuple(tuple(readable_parts(text, encoder)) for text in written[0].texts)
        return Rewriting("rewritten", why, each, written[0].adapter)
    if failed := next((answer for answer in answers if not answer.texts), None):
        count = len(answers) - len(written)
        why = f"{why}, but {count} of {len(answers)} parts as typed: {failed.reason}"
    texts = [
        text
        for prompt, answer in zip(prompts, answers, strict=True)
        for text in answer.texts or [prompt.query]
    ]
    joined = tuple(part for text in texts for part in readable_parts(text, encoder))
    return Rewriting("rewritten", why, (joined,), written[0].adapter, len(prompts))


def _fusion(fusion: Fusion, known: bool, turns: bool = False) -> Fusion:
    """What ``auto`` stands for.

    Args:
        known: the encoder knows the query as typed. A rewrite that was requested all the same is
            searched together with it, and cannot do much harm.
        turns: something else is worth a search in turns with the rewrites.
    """
    if fusion != "auto":
        return fusion
    if known:
        return "mean"
    return "interleave" if turns else "rewrite"


def _planned(
    typed: Search, rewriting: Rewriting, fusion: Fusion, alternate: Search | None = None
) -> Plan:
    if not rewriting.rewrites:
        return Plan.of(typed, rewriting)
    searches = searches_for(fusion, typed, rewriting.rewrites, alternate)
    return Plan(searches, fusion, rewriting, typed, alternate)


def make_plans(
    steps: Sequence[Steps[Plan]],
    best_scores: Callable[[list[Search]], Sequence[float | None]],
    answers: Callable[[dict[int, list[Prompt]]], dict[int, Sequence[Answer]]],
) -> list[Plan]:
    """Makes many plans at once, with everything that they need looked up in batches.

    Args:
        best_scores: the best picture's score in each search.
        answers: the rewriter's answers, by the number of the plan that needs them.
    """
    plans: dict[int, Plan] = {}
    given: dict[int, Given] = dict.fromkeys(range(len(steps)))
    while given:
        needs: dict[int, Need] = {}
        for number, value in given.items():
            try:
                needs[number] = steps[number].send(value)
            except StopIteration as ended:
                plans[number] = ended.value
        looked_up = {n: need.search for n, need in needs.items() if isinstance(need, BestScore)}
        asked = {n: need.prompts for n, need in needs.items() if isinstance(need, Answers)}
        given = {}
        if looked_up:
            scores = best_scores(list(looked_up.values()))
            given.update(zip(looked_up, scores, strict=True))
        if asked:
            given.update(answers(asked))
    return [plans[number] for number in range(len(steps))]
