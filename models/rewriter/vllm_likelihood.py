"""How probable a text is after each of several prompts, in one pass of vLLM's engine."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.rewriter.likelihood import Continuation
from models.rewriter.protocol import RewriteFailed
from models.rewriter.vllm_engine import SCORE_FROM

if TYPE_CHECKING:
    from vllm import RequestOutput
    from vllm.logprobs import Logprob
    from vllm.v1.engine.async_llm import AsyncLLM

# Arguments: the engine's input, the parameters, whether it streams.
Answers = Callable[[Any, dict[str, Any], bool], AsyncIterator["RequestOutput"]]


@dataclass
class VLLMScoring:
    """The scores of one text.

    Args:
        engine: with the worker of :mod:`models.rewriter.vllm_scoring` on a CPU.
        answers: asks the engine.
        line_end: id of the token that ends a line.
        name: of this comparison, for the engine.
    """

    engine: "AsyncLLM"
    answers: Answers
    line_end: int
    name: str

    async def log_likelihoods(self, asked: Continuation) -> list[float]:
        """The log-probability that each prompt goes on with the text and ends its line.

        NaN for a prompt that is too long with the text behind it.
        """
        tokenizer = self.engine.get_tokenizer()
        text = [*tokenizer.encode(asked.text, add_special_tokens=False), self.line_end]
        prompts = [tokenizer.encode(prompt) for prompt in asked.prompts]
        # The engine writes one token more.
        longest = self.engine.vllm_config.model_config.max_model_len - len(text) - 1
        found = [math.nan] * len(prompts)
        # The text may come from the cache, too, so that nothing is computed for it. vLLM's own
        # worker leaves undefined what came from there.
        for reads_cache in (True, False) if self._on_cpu else (False,):
            left = [
                place
                for place, prompt in enumerate(prompts)
                if math.isnan(found[place]) and len(prompt) <= longest
            ]
            if left:
                some = await self._together([prompts[place] for place in left], text, reads_cache)
                for place, value in zip(left, some, strict=True):
                    found[place] = value
        return found

    @property
    def _on_cpu(self) -> bool:
        return self.engine.vllm_config.kv_transfer_config is not None

    async def _together(
        self, prompts: Sequence[list[int]], text: list[int], reads_cache: bool
    ) -> list[float]:
        """All prompts in one step of the engine."""
        try:
            # If one fails, the others must not wait for it.
            mark = {
                "batch": f"{self.name}-{reads_cache}",
                "size": len(prompts),
                "shared": _shared(prompts),
            }
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._one(ids, text, reads_cache, mark)) for ids in prompts
                ]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None  # they are all the same
        return [task.result() for task in tasks]

    async def _one(
        self, prompt: list[int], text: list[int], reads_cache: bool, mark: dict[str, Any]
    ) -> float:
        (engine_input,) = self.engine.renderer.render_cmpl([{"prompt_token_ids": [*prompt, *text]}])
        extra: dict[str, Any] = {SCORE_FROM: len(prompt)}
        if self._on_cpu:
            extra["kv_transfer_params"] = mark
        parameters = {
            "max_tokens": 1,
            "temperature": 0.0,
            # Not `logprob_token_ids`: in vLLM's step one request with them takes the alternatives
            # away from every other one.
            "prompt_logprobs": 0,
            "detokenize": False,
            "skip_reading_prefix_cache": not reads_cache,
            "extra_args": extra,
        }
        async for output in self.answers(engine_input, parameters, False):
            if output.prompt_logprobs:
                return _of_last(output.prompt_logprobs, text)
        raise RewriteFailed("vLLM gave no log-probabilities")


def _of_last(logprobs: Sequence[Mapping[int, "Logprob"] | None], tokens: Sequence[int]) -> float:
    """Of the last tokens of a prompt together."""
    pairs = zip(logprobs[-len(tokens) :], tokens, strict=True)
    return sum(own[token].logprob if own else math.nan for own, token in pairs)


def _shared(prompts: Sequence[list[int]]) -> int:
    """How many tokens all prompts have in common at their beginning."""
    places = enumerate(zip(*prompts, strict=False))
    return next((place for place, tokens in places if len(set(tokens)) > 1), 0)
