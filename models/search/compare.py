"""Has a language model score the texts of a comparison, by likelihood or in groups."""

from collections.abc import Mapping

from models.rewriter.likelihood import Continuation, continuation
from models.rewriter.protocol import Prompt, Rewriter
from models.rewriter.ratings import parse_ratings
from models.rewriter.tasks import RERANK_TASKS, Task, rerank_query
from models.search.rerank import Comparison, groups_of, ratings_of

Tasks = Mapping[str, Task]  # by name, with the prompts that the model was trained on


async def compared(
    rewriter: Rewriter, asked: Comparison, tasks: Tasks = RERANK_TASKS
) -> list[float | None]:
    """A score for each text: log p(query | text), or by group a rating from 0 to 9.

    Raises:
        RewriteFailed: there are no scores.
    """
    if asked.by == "likelihood":
        return [*await rewriter.log_likelihoods(_continuation(asked, tasks))]
    groups = groups_of(len(asked.texts), asked.passes)
    written = await rewriter.written_tokens(_prompts(asked, groups, tasks))
    ratings = [
        parse_ratings(tokens, likely, len(group))
        for (tokens, likely), group in zip(written, groups, strict=True)
    ]
    return ratings_of(len(asked.texts), groups, ratings)


def read_for(asked: Comparison, tasks: Tasks = RERANK_TASKS) -> list[str]:
    """Every text that the model reads for a comparison: what it costs."""
    if asked.by == "likelihood":
        wanted = _continuation(asked, tasks)
        return [prompt + wanted.text for prompt in wanted.prompts]
    groups = groups_of(len(asked.texts), asked.passes)
    return [prompt.task.prompt(prompt.query) for prompt in _prompts(asked, groups, tasks)]


def _continuation(asked: Comparison, tasks: Tasks) -> Continuation:
    return continuation(tasks[asked.task], asked.query, asked.texts)


def _prompts(asked: Comparison, groups: list[list[int]], tasks: Tasks) -> list[Prompt]:
    return [
        Prompt(tasks[asked.task], rerank_query(asked.query, [asked.texts[n] for n in group]))
        for group in groups
    ]
