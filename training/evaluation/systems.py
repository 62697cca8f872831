"""The systems that can be compared: what each asks of the language model, and what it searches."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

from models.rewriter.adapter import Adapter
from models.rewriter.tasks import LONG, MULTILINGUAL, TASKS, Task

Model = Literal["none", "frozen", "tuned", "oracle"]
Prompt = Literal["examples", "zero-shot", "describe", "adapter"]
Combine = Literal["one", "rrf", "mean", "interleave", "consistent"]
By = Literal["text", "image", "image+text"]


class SystemSpec(NamedTuple):
    """How one system turns a query into searches."""

    about: str
    model: Model = "none"
    prompt: Prompt = "examples"
    draws: bool = False  # several rewrites besides the greedy one
    combine: Combine = "one"  # how several texts become one list of pictures
    with_original: bool = False  # the query is one of the texts
    gated: bool = False  # what the encoder knows is searched as typed
    beside: bool = False  # what the encoder knows is searched beside its rewrite
    by: By = "text"  # what is searched with: the row's reference picture is an image
    cut: bool = False  # a query longer than the encoder reads is searched in parts


SYSTEMS = {
    "direct": SystemSpec("the query as typed"),
    "parts": SystemSpec(
        "the query as typed; a longer one than the encoder reads by the mean vector of its parts",
        combine="mean", cut=True,
    ),
    # The baselines of composed retrieval without training, as in Baldrati et al., 2023.
    "image": SystemSpec("the reference picture alone", by="image"),
    "image+text": SystemSpec(
        "mean vector of the reference picture and the query as typed", combine="mean",
        by="image+text",
    ),
    "zero-shot": SystemSpec("frozen model, instruction alone", "frozen", "zero-shot"),
    "frozen": SystemSpec("frozen model, examples in the prompt", "frozen"),
    "tuned": SystemSpec("the adapter", "tuned", "adapter"),
    "auto": SystemSpec(
        "the adapter where the gate asks for it", "tuned", "adapter", combine="interleave",
        gated=True,
    ),
    "always": SystemSpec(
        "the adapter; beside its rewrite the query, where the gate would keep it", "tuned",
        "adapter", combine="interleave", beside=True,
    ),
    "frozen+image": SystemSpec(
        "mean vector of the reference picture and the frozen model's rewrite", "frozen",
        combine="mean", by="image+text",
    ),
    "tuned+image": SystemSpec(
        "mean vector of the reference picture and the adapter's rewrite", "tuned", "adapter",
        combine="mean", by="image+text",
    ),
    "tuned-rrf": SystemSpec(
        "the adapter's list and the query's, by reciprocal rank", "tuned", "adapter",
        combine="rrf", with_original=True,
    ),
    "tuned-mean": SystemSpec(
        "mean vector of the query and the adapter's rewrite", "tuned", "adapter",
        combine="mean", with_original=True,
    ),
    "n-best-rrf": SystemSpec(
        "several rewrites of the adapter, by reciprocal rank", "tuned", "adapter",
        draws=True, combine="rrf",
    ),
    "self-consistency": SystemSpec(
        "mean vector of several rewrites of the adapter", "tuned", "adapter",
        draws=True, combine="mean",
    ),
    "n-best-medoid": SystemSpec(
        "of several rewrites of the adapter the one that is most like the others", "tuned",
        "adapter", draws=True, combine="consistent",
    ),
    "hyde": SystemSpec("the frozen model describes the picture", "frozen", "describe"),
    "multi-query": SystemSpec(
        "the query and several rewrites of the frozen model, by reciprocal rank", "frozen",
        draws=True, combine="rrf", with_original=True,
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


def tasks_of(prompt: Prompt, adapter: Adapter | None) -> Mapping[str, Task]:
    """The prompts that a system puts to its model, by the query's task."""
    if prompt == "adapter":
        assert adapter, "a tuned system without an adapter is refused before"
        return {**TASKS, **adapter.tasks}
    if prompt == "zero-shot":
        return {name: replace(task, examples=()) for name, task in TASKS.items()}
    if prompt == "describe":
        instruction = "Describe the picture that is looked for in an English sentence."
        return TASKS | {
            task.name: replace(
                task,
                instruction=instruction,
                labels=("Wanted", "Picture"),
                examples=_DESCRIBE,
                max_tokens=40,
            )
            for task in (MULTILINGUAL, LONG)
        }
    return TASKS


def texts_of(with_original: bool, query: str, rewrites: list[str]) -> tuple[str, ...]:
    """What is searched for a query: each text once, the query where there is nothing else."""
    texts = [query, *rewrites] if with_original else rewrites
    return tuple(dict.fromkeys(texts)) or (query,)
