"""Has a language model score the texts of a comparison, by likelihood or in groups."""

from models.rewriter.likelihood import TURNED, continuation
from models.rewriter.protocol import Prompt, Rewriter
from models.rewriter.tasks import RERANK, Task, parse_ratings, rerank_query
from models.search.rerank import Comparison, groups_of, ratings_of


async def compared(
    rewriter: Rewriter, asked: Comparison, rating: Task = RERANK
) -> list[float | None]:
    """A score for each text: log p(query | text), or by group a rating from 0 to 9.

    Args:
        rating: the task of a group, as the adapter was trained on it.

    Raises:
        RewriteFailed: there are no scores.
    """
    if asked.by == "likelihood":
        wanted = continuation(TURNED[asked.task], asked.query, asked.texts)
        return [*await rewriter.log_likelihoods(wanted)]
    groups = groups_of(len(asked.texts), asked.passes)
    written = await rewriter.written_tokens(_prompts(asked, groups, rating))
    ratings = [
        parse_ratings(tokens, likely, len(group))
        for (tokens, likely), group in zip(written, groups, strict=True)
    ]
    return ratings_of(len(asked.texts), groups, ratings)


def read_for(asked: Comparison, rating: Task = RERANK) -> list[str]:
    """Every text that the model reads for a comparison: what it costs."""
    if asked.by == "likelihood":
        wanted = continuation(TURNED[asked.task], asked.query, asked.texts)
        return [prompt + wanted.text for prompt in wanted.prompts]
    groups = groups_of(len(asked.texts), asked.passes)
    return [prompt.task.prompt(prompt.query) for prompt in _prompts(asked, groups, rating)]


def _prompts(asked: Comparison, groups: list[list[int]], rating: Task) -> list[Prompt]:
    return [
        Prompt(rating, rerank_query(asked.query, [asked.texts[place] for place in group]))
        for group in groups
    ]
