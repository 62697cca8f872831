"""What a search is for: words, a picture, or a picture and how it is to be different."""

from typing import NamedTuple

from models.retriever.types import Encoder
from models.rewriter.protocol import Prompt
from models.rewriter.tasks import Task, composed_query
from models.search.fusion import Search
from models.search.long_text import readable_parts, split_text
from service.reference import Reference


class Wanted(NamedTuple):
    """One of the two at least."""

    query: str | None
    reference: Reference | None = None


def as_typed(wanted: Wanted, encoder: Encoder) -> Search:
    """The search without rewriting: of a long text the parts, and the picture beside it."""
    texts = readable_parts(wanted.query, encoder) if wanted.query else []
    if wanted.reference is None:
        return Search("query", tuple(texts))
    name = "picture + query" if texts else "picture"
    return Search(name, (wanted.reference.vector, *texts))


def prompts(wanted: Wanted, task: Task, sees_pictures: bool) -> list[Prompt]:
    """What the language model is asked: a long query in as many parts as it is shown at a time.

    None where it cannot know what the picture shows.
    """
    assert wanted.query
    if wanted.reference is None:
        parts = split_text(wanted.query, lambda part: len(part) <= task.max_chars)
        return [Prompt(task, part) for part in parts]
    if sees_pictures and wanted.reference.picture:
        return [Prompt(task, wanted.query, wanted.reference.picture)]
    if wanted.reference.caption is None:
        return []
    return [Prompt(task, composed_query(wanted.reference.caption, wanted.query))]
