"""The systems that can be compared: what each asks of the language model, and what it searches."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

from models.rewriter.adapter import Adapter
from models.rewriter.chat import ChatTemplate
from models.rewriter.tasks import LONG, MULTILINGUAL, TASKS, Task, in_style
from models.search.options import ComparedBy, Fusion, RewriteMode

Model = Literal["none", "frozen", "tuned", "oracle"]
PromptStyle = Literal["examples", "zero-shot", "describe", "adapter"]
# The greedy rewrite; several drawn ones; the most probable ones.
Finds = Literal["one", "drawn", "best"]
By = Literal["text", "image", "image+text"]
# What reorders the first pictures: the two that are served, and two that they are compared with.
Reranker = ComparedBy | Literal["listwise", "cross-encoder"]


class SystemSpec(NamedTuple):
    """How one system turns a query into searches.

    A system with a language model runs the search plan that serving runs, with this ``rewrite`` and
    ``fusion``.
    """

    about: str
    model: Model = "none"
    prompt: PromptStyle = "examples"
    rewrite: RewriteMode = "always"
    fusion: Fusion = "rewrite"
    finds: Finds = "one"
    medoid: bool = False  # of several rewrites only the one that is most like the others
    typed: bool = True  # what was typed may be part of a mixture
    by: By = "text"  # the picture that a row refers to is an image
    rerank: Reranker | None = None  # the first pictures are reranked
    frozen_judge: bool = False  # by the frozen model, whatever model rewrites
    cut: bool = False  # a query that is longer than the encoder reads is searched in parts


SYSTEMS = {
    "direct": SystemSpec("the query as typed"),
    "parts": SystemSpec(
        "the query as typed; if the encoder cannot read it whole, by the mean vector of its parts",
        cut=True,
    ),
    # The baselines of composed retrieval without training, as in Baldrati et al., 2023.
    "image": SystemSpec("the reference picture alone", by="image"),
    "image+text": SystemSpec(
        "mean vector of the reference picture and the query as typed", by="image+text"
    ),
    "zero-shot": SystemSpec("frozen model, instruction alone", "frozen", "zero-shot"),
    "frozen": SystemSpec("frozen model, examples in the prompt", "frozen"),
    "tuned": SystemSpec("the adapter", "tuned", "adapter"),
    "auto": SystemSpec(
        "the adapter where the gate asks for it", "tuned", "adapter", rewrite="auto", fusion="auto",
        finds="best",
    ),
    "rerank": SystemSpec(
        "no adapter: the frozen model where the gate asks for it, as served, and its first "
        "pictures reranked by its query likelihood", "frozen", rewrite="auto", fusion="auto",
        finds="best", rerank="likelihood",
    ),
    "auto+rerank": SystemSpec(
        "`auto`, and its first pictures reranked by query likelihood", "tuned", "adapter",
        rewrite="auto", fusion="auto", finds="best", rerank="likelihood",
    ),
    "auto+rerank-group": SystemSpec(
        "`auto`, and its first pictures rated in groups by the same model", "tuned", "adapter",
        rewrite="auto", fusion="auto", finds="best", rerank="group",
    ),
    "auto+rerank-frozen": SystemSpec(
        "`auto`, and its first pictures reranked by query likelihood of the frozen model", "tuned",
        "adapter", rewrite="auto", fusion="auto", finds="best", rerank="likelihood",
        frozen_judge=True,
    ),
    "auto+rerank-group-frozen": SystemSpec(
        "`auto`, and its first pictures rated in groups by the frozen model", "tuned", "adapter",
        rewrite="auto", fusion="auto", finds="best", rerank="group", frozen_judge=True,
    ),
    "auto+rerank-listwise": SystemSpec(
        "`auto`, and its first pictures in the order that the frozen model writes, ten at a time",
        "tuned", "adapter", rewrite="auto", fusion="auto", finds="best", rerank="listwise",
        frozen_judge=True,
    ),
    "auto+cross-encoder": SystemSpec(
        "`auto`, and its first pictures in the order of the model that --cross-encoder names",
        "tuned", "adapter", rewrite="auto", fusion="auto", finds="best", rerank="cross-encoder",
    ),
    "always": SystemSpec(
        "the adapter for every query, as served", "tuned", "adapter", fusion="auto", finds="best"
    ),
    "frozen-always": SystemSpec(
        "the frozen model for every query, as served without an adapter", "frozen", fusion="auto",
        finds="best",
    ),
    "mixture": SystemSpec(
        "the adapter's most probable rewrites in a mixture, without the query", "tuned", "adapter",
        fusion="mixture", finds="best", typed=False,
    ),
    "drawn-mixture": SystemSpec(
        "rewrites drawn from the adapter in a mixture, without the query", "tuned", "adapter",
        fusion="mixture", finds="drawn", typed=False,
    ),
    "frozen-mixture": SystemSpec(
        "the frozen model's most probable rewrites in a mixture, without the query", "frozen",
        fusion="mixture", finds="best", typed=False,
    ),
    "frozen+image": SystemSpec(
        "mean vector of the reference picture and the frozen model's rewrite", "frozen",
        by="image+text",
    ),
    "tuned+image": SystemSpec(
        "mean vector of the reference picture and the adapter's rewrite", "tuned", "adapter",
        by="image+text",
    ),
    "tuned-rrf": SystemSpec(
        "the adapter's list and the query's, by reciprocal rank", "tuned", "adapter", fusion="rrf"
    ),
    "tuned-interleave": SystemSpec(
        "the adapter's list in turns with what was typed, or with the picture to be changed",
        "tuned", "adapter", fusion="interleave",
    ),
    "tuned-mean": SystemSpec(
        "mean vector of the query and the adapter's rewrite", "tuned", "adapter", fusion="mean"
    ),
    "n-best-rrf": SystemSpec(
        "several rewrites of the adapter, by reciprocal rank", "tuned", "adapter", finds="drawn"
    ),
    "n-best-medoid": SystemSpec(
        "of several rewrites of the adapter the one that is most like the others", "tuned",
        "adapter", finds="drawn", medoid=True,
    ),
    "hyde": SystemSpec("the frozen model describes the picture", "frozen", "describe"),
    "multi-query": SystemSpec(
        "the query and several rewrites of the frozen model, by reciprocal rank", "frozen",
        fusion="rrf", finds="drawn",
    ),
    "oracle": SystemSpec("a perfect English query, where the data has one", "oracle"),
}  # fmt: skip

# HyDE (Gao et al., 2022) searches with a hypothetical answer: here with a caption as photo sites
# write them.
_DESCRIBE = (
    ("ein alter Mann liest Zeitung", "an old man with glasses sits and reads a newspaper"),
    ("红色的帽子", "a red hat with a brim, seen from the side"),
    ("seau d'eau", "a blue bucket that is full of water"),
    ("cansado", "a yellow face with heavy eyes that looks tired"),
)


def tasks_of(
    prompt: PromptStyle, adapter: Adapter | None, chat: ChatTemplate | None = None
) -> Mapping[str, Task]:
    """The prompts that a system puts to its model, by the query's task.

    Args:
        chat: template of the model, if it is asked by chat, or if the adapter was trained so.
    """
    tasks = in_style(TASKS, chat)
    if prompt == "adapter":
        assert adapter, "a tuned system without an adapter is refused before"
        return {**tasks, **adapter.tasks_with(chat)}
    if prompt == "zero-shot":
        return {name: replace(task, examples=()) for name, task in tasks.items()}
    if prompt == "describe":
        instruction = "Describe the picture that is looked for in an English sentence."
        return tasks | {
            name: replace(
                tasks[name],
                instruction=instruction,
                labels=("Wanted", "Picture"),
                examples=_DESCRIBE,
                max_tokens=40,
            )
            for name in (MULTILINGUAL.name, LONG.name)
        }
    return tasks
