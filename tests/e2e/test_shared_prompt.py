"""Branches that copy the greedy answer's keys and values say what they would say without it."""

import asyncio
import contextlib
import math
import random
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from models.common import paths
from models.rewriter.likelihood import continuation
from models.rewriter.protocol import Completions, Prompt, Sampling
from models.rewriter.tasks import LIKELIHOOD, MULTILINGUAL
from models.rewriter.vllm import VLLMOptions, VLLMRewriter

pytestmark = pytest.mark.asyncio(loop_scope="module")  # that of the engine
SAMPLING = Sampling(n=4)
WORDS = ["caballo", "ギター", "велосипед", "Haus", "pomme", "кошка", "椅子", "fiore", "zámek"]
# In bfloat16 a word that is computed with its prompt or alone differs by up to a tenth.
OPTIONS = VLLMOptions(
    str(paths.checkpoint_dir(paths.DEFAULT_LLM)), "float32", max_model_len=768, kv_cache_gib=0.04
)


@pytest.fixture(scope="module")
def rewriter() -> Iterator[VLLMRewriter]:
    rewriter = VLLMRewriter(OPTIONS)
    yield rewriter
    asyncio.run(rewriter.close())


def prompts() -> list[Prompt]:
    """Of 7 to about 100 tokens without examples, and of 484 with them."""
    choose = random.Random(1)
    queries = [" ".join(choose.choices(WORDS, k=words)) for words in (3, 8, 13, 48)]
    short = [Prompt(MULTILINGUAL.short, query) for query in [*WORDS[:2], *queries]]
    return short + [Prompt(MULTILINGUAL, query) for query in WORDS[:2]]


async def found(rewriter: VLLMRewriter, prompt: Prompt) -> dict[str, float]:
    completions: Completions = await rewriter.complete(prompt, SAMPLING)
    return {text: probability or 0.0 for text, probability in completions.answers}


@contextlib.contextmanager
def computed(rewriter: VLLMRewriter) -> Iterator[list[int]]:
    """The numbers of prompt tokens that the engine computes, a request each."""
    numbers: list[int] = []
    generate = rewriter._engine.generate

    async def counted(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async for output in generate(*args, **kwargs):
            yield output
        numbers.append(len(output.prompt_token_ids or ()) - (output.num_cached_tokens or 0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rewriter._engine, "generate", counted)
        yield numbers


async def test_branches_copy_and_find_the_same(rewriter: VLLMRewriter) -> None:
    """One at a time with copies; then without; then all at once with copies, some cancelled."""
    alone = {prompt: await found(rewriter, prompt) for prompt in prompts()}
    with computed(rewriter) as copying:
        again = await found(rewriter, prompts()[0])
    assert sorted(copying)[:-1] == [1] * (len(copying) - 1)  # all but the greedy answer
    with pytest.MonkeyPatch.context() as patch, computed(rewriter) as computing:
        patch.setattr(rewriter._engine.vllm_config, "kv_transfer_config", None)
        expected = {prompt: await found(rewriter, prompt) for prompt in prompts()}
    assert sum(number > 1 for number in computing) > len(computing) / 2
    assert again == pytest.approx(expected[prompts()[0]], rel=1e-3)

    async def given_up(prompt: Prompt, after_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(found(rewriter, prompt), after_s)

    others = [given_up(prompt, 0.1 * place) for place, prompt in enumerate(prompts())]
    wanted = [found(rewriter, prompt) for prompt in prompts()]
    crowd = (await asyncio.gather(*wanted, *others))[: len(wanted)]
    for prompt, at_once in zip(prompts(), crowd, strict=True):
        assert alone[prompt] == pytest.approx(expected[prompt], rel=1e-3), prompt.query
        assert at_once == pytest.approx(expected[prompt], rel=1e-3), prompt.query


async def test_the_engine_waits_for_a_lone_search_and_for_no_other(
    rewriter: VLLMRewriter,
) -> None:
    """A search that never tells it to go on: it goes on for others, and when it is given up."""
    abort = rewriter._engine.engine_core.abort_requests_async

    async def never_goes_on(requests: list[str]) -> None:
        await abort([name for name in requests if not name.endswith("-go-on")])

    first, second = prompts()[:2]
    expected = [await found(rewriter, prompt) for prompt in (first, second)]
    started = time.perf_counter()
    await found(rewriter, first)
    usual_s = time.perf_counter() - started
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rewriter._engine.engine_core, "abort_requests_async", never_goes_on)
        silent = asyncio.create_task(found(rewriter, first))
        await asyncio.sleep(3 * usual_s)
        assert not silent.done()
        async with asyncio.timeout(60):
            assert await found(rewriter, second) == pytest.approx(expected[1], rel=1e-3)
        alone_again = asyncio.create_task(found(rewriter, first))
        await asyncio.sleep(0.1)
        silent.cancel()
        alone_again.cancel()
    async with asyncio.timeout(60):
        assert await found(rewriter, first) == pytest.approx(expected[0], rel=1e-3)


async def test_scores_in_the_same_step_take_no_alternatives_away(rewriter: VLLMRewriter) -> None:
    prompt = prompts()[0]
    alone = await found(rewriter, prompt)
    asked = continuation(LIKELIHOOD, "caballo", ["horse", "dog", "cat"])
    beside, *_ = await asyncio.gather(
        found(rewriter, prompt),
        *(rewriter.log_likelihoods(asked._replace(text=f" {word}")) for word in WORDS),
    )
    assert len(alone) > 1
    assert beside == pytest.approx(alone, rel=1e-3)


async def test_a_text_that_is_too_long_has_no_score_and_costs_no_other_one(
    rewriter: VLLMRewriter,
) -> None:
    asked = continuation(LIKELIHOOD, "caballo", ["horse", "dog"])
    long = asked._replace(prompts=[*asked.prompts, "7" * 3000])
    scores = await rewriter.log_likelihoods(long)
    assert scores[:2] == pytest.approx(await rewriter.log_likelihoods(asked), rel=1e-3)
    assert math.isnan(scores[2])
