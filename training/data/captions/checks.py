"""What needs no model to be left out: other languages, the caption again, near-duplicates."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from models.retriever.fields import is_utf8
from models.rewriter.answers import read_rewrite
from models.rewriter.protocol import Completion
from models.rewriter.tasks import TASKS, composed_query
from models.search.normalise import normalise
from training.data.captions.drafts import Draft
from training.data.captions.languages import is_in
from training.data.captions.prompts import DESCRIPTIONS

Reason = Literal[
    "no answer",
    "longer than the prompt takes",
    "another language",
    "the caption again",
    "an example of the prompt again",
    "near-duplicates",
    "does not find its picture",
]

_ALIKE = 0.7  # share of the trigrams of two texts that are in both


class Written(NamedTuple):
    """A query that the model wrote."""

    draft: Draft
    query: str  # normalised

    @property
    def asked(self) -> str:
        """The text that a rewriter is given."""
        reference = self.draft.reference
        return composed_query(reference.caption, self.query) if reference else self.query


class LeftOut(NamedTuple):
    """A query that is not kept, and why."""

    written: Written
    reason: Reason


def read_answers(
    drafts: Iterable[Draft], answers: Iterable[Sequence[Completion]]
) -> Iterator[Written]:
    """The queries in the answers, each text once for each draft; empty if there is none."""
    for draft, some in zip(drafts, answers, strict=True):
        texts = dict.fromkeys(normalise(read_rewrite(answer.text) or "") for answer in some)
        usable = [text for text in texts if text and is_utf8(text)]
        yield from (Written(draft, text) for text in usable or [""])


def wrong_by_itself(written: Written, languages: Sequence[str]) -> Reason | None:
    """Why a query is left out whatever it finds, if it is.

    Args:
        languages: all that queries are written in.
    """
    draft, query = written.draft, written.query
    if not query:
        return "no answer"
    if len(written.asked) > TASKS[draft.task].max_chars:
        return "longer than the prompt takes"
    captions = [draft.target.caption, *([draft.reference.caption] if draft.reference else [])]
    # First, since a word that two languages share is no mistake of the language.
    if any(is_alike(query, caption) for caption in captions):
        return "the caption again"
    if draft.task == "long" and any(is_alike(query, shown) for _, shown in DESCRIPTIONS.examples):
        return "an example of the prompt again"
    if not is_in(query, draft.language, languages):
        return "another language"
    return None


class Duplicates:
    """Remembers queries, and knows what says the same again.

    One query has one right picture, or else it is asked for in two splits. Of the queries of one
    picture in one language, those that differ in a few letters teach the same.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._near: dict[object, list[str]] = {}

    def has(self, written: Written) -> bool:
        """Whether it is a near-duplicate of what was added."""
        if _letters(written.asked) in self._seen:
            return True
        return any(is_alike(written.query, other) for other in self._near.get(_place(written), []))

    def add(self, written: Written) -> None:
        self._seen.add(_letters(written.asked))
        self._near.setdefault(_place(written), []).append(written.query)


def is_alike(one: str, other: str) -> bool:
    """Whether two texts are the same but for case, punctuation and a few letters."""
    first, second = _letters(one), _letters(other)
    if first == second:
        return True
    a, b = _trigrams(first), _trigrams(second)
    return len(a & b) >= _ALIKE * len(a | b)


def _place(written: Written) -> object:
    draft = written.draft
    return draft.target.id, draft.language, draft.reference and draft.reference.id


def _letters(text: str) -> str:
    kept = "".join(mark if mark.isalnum() else " " for mark in normalise(text).casefold())
    return " ".join(kept.split())


def _trigrams(text: str) -> set[str]:
    padded = f" {text} "
    return {padded[place : place + 3] for place in range(len(padded) - 2)}
