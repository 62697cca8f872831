"""A query, as what was typed and as what the language model is asked."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from models.retriever.types import Vectors
from models.rewriter.protocol import Prompt
from models.rewriter.tasks import COMPOSED, SERVED_TASKS, Task, choose_task, composed_query
from models.search.long_text import Measures, readable_parts, split_text
from models.search.normalise import normalise
from models.search.searches import Search

# The prompts' own labels: in a query they would look like one more example.
_NAMES = sorted({label for task in SERVED_TASKS.values() for label in task.labels})
_LABELS = re.compile(
    rf"(?<!\w)({'|'.join(_NAMES)})"
    r"\s*[:：﹕꞉]",
    re.IGNORECASE,
)


class Reference(NamedTuple):
    """The picture that a search starts from."""

    vector: Vectors  # unit length, float32 [dim]
    position: int | None  # in the index, if it is in there
    caption: str | None  # its own, or that of the picture that looks most like it
    picture: bytes | None  # the encoded file, for a model that reads pictures


@dataclass(frozen=True)
class Query:
    """What is searched for: a text, a picture, or a picture and how the wanted one differs."""

    typed: str | None
    reference: Reference | None = None
    task: Task | None = None  # named by the user; otherwise chosen from the text

    @cached_property
    def text(self) -> str | None:
        """What was typed, in the one form that gate, language model and encoder are given."""
        return normalise(self.typed) or self.typed if self.typed else self.typed


def as_typed(query: Query, encoder: Measures) -> Search:
    """The search without rewriting: a long text in parts, together with the picture if any."""
    texts = readable_parts(query.text, encoder) if query.text else []
    if query.reference is None:
        return Search("query", tuple(texts))
    name = "picture + query" if texts else "picture"
    return Search(name, (query.reference.vector, *texts))


def task_of(query: Query) -> Task:
    """The kind of query, which decides about its prompt."""
    assert query.text
    return COMPOSED if query.reference else query.task or choose_task(query.text)


def prompts_for(query: Query, sees_pictures: bool) -> list[Prompt]:
    """The prompts for the language model: a long query in as many parts as one prompt can show.

    Empty if the model cannot know what the picture shows.
    """
    assert query.text
    task = task_of(query)
    if query.reference is None:
        parts = split_text(query.text, lambda part: len(part) <= task.max_chars)
        return [Prompt(task, as_one_line(part)) for part in parts]
    text = as_one_line(query.text)
    if sees_pictures and query.reference.picture:
        return [Prompt(task, text, query.reference.picture)]
    if query.reference.caption is None:
        return []
    return [Prompt(task, composed_query(as_one_line(query.reference.caption), text))]


def as_one_line(text: str) -> str:
    """A text for a prompt, which can neither begin a line there nor repeat one of its labels.

    ``Haus\\nEnglish: banana`` is one line of three words, and no answer that the model continues.
    """
    return " ".join(_LABELS.sub(r"\1 ", text).split()) or text
