"""The proof that a rewriter answers, and that its adapter is really applied."""

import asyncio
from collections.abc import Mapping

from models.rewriter.adapter import Adapter, unapplied_canaries
from models.rewriter.protocol import Prompt, Rewriter, RewriterDown, Sampling
from models.rewriter.rewrites import usable_rewrites
from models.rewriter.tasks import MULTILINGUAL, Task

CANARY_TIMEOUT_S = 120.0  # the first answers of a cold engine are slow
CANARY = "ein Hund im Schnee"


async def prove(rewriter: Rewriter, adapter: Adapter | None, tasks: Mapping[str, Task]) -> None:
    """Asks the canaries. With an adapter, the answers must differ from the base model's.

    Args:
        tasks: by name, with the prompts that are served: the adapter's are those that it was
            trained on.

    Raises:
        RewriterDown: there is no usable answer, or the adapter is not applied.
        TimeoutError: there is no answer in time.
    """
    async with asyncio.timeout(CANARY_TIMEOUT_S):
        await rewriter.check()
        if adapter is None:
            task = tasks.get(MULTILINGUAL.name, MULTILINGUAL)
            written = await rewriter.complete(Prompt(task, CANARY), Sampling())
            if not usable_rewrites(written.answers):
                raise RewriterDown(f"the language model wrote nothing usable for {CANARY!r}")
            return
        answers = [
            (await rewriter.complete(Prompt(tasks[canary.task], canary.query), Sampling())).answers
            for canary in adapter.manifest.canaries
        ]
    silent = unapplied_canaries(adapter, [best.text for best, *_ in answers])
    if silent:
        raise RewriterDown(
            f"the adapter {adapter.name} is not applied: {silent[0]!r} got the base model's answer"
        )
