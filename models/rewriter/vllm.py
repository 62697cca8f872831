"""VLLMRewriter: vLLM's AsyncLLM in this process, its engine in a child process."""

import asyncio
import contextlib
import copy
import itertools
import math
import uuid
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.common.errors import InputError
from models.rewriter.adapter import Adapter
from models.rewriter.likelihood import Continuation
from models.rewriter.merge import merge_adapter
from models.rewriter.protocol import (
    Completion,
    Completions,
    OnText,
    Prompt,
    RewriteFailed,
    RewriterDown,
    Sampling,
    WrittenTokens,
)
from models.rewriter.vllm_branches import BranchSearch
from models.rewriter.vllm_engine import (
    VLLMOptions,
    import_engine_ahead,
    is_on_cpu,
    start_engine,
)
from models.rewriter.vllm_likelihood import VLLMScoring
from models.rewriter.vllm_tokenizers import answer_ends, line_ends
from models.rewriter.vllm_vision import candidates_prompt, picture_prompt, takes_pictures

if TYPE_CHECKING:
    from vllm import RequestOutput
    from vllm.lora.request import LoRARequest

__all__ = ["VLLMOptions", "VLLMRewriter"]

_CONSIDERED = 20  # tokens at each place; vLLM gives no more by default


class VLLMRewriter:
    """Batches all requests continuously, and caches the shared prefix of the prompts.

    On a GPU an adapter is attached. On a CPU it is merged into a checkpoint once, because there
    vLLM is ten times slower with an attached one.
    """

    def __init__(
        self, options: VLLMOptions, adapter: Adapter | None = None, cache: Path | None = None
    ) -> None:
        """Starts the engine and returns when it answers, which takes half a minute on a CPU.

        Args:
            cache: folder for merged checkpoints. Needed for an adapter on a CPU.

        Raises:
            InputError: no such model, or an engine that cannot run on this machine.
            RewriterDown: the engine did not start.
        """
        self._adapter = adapter
        self._image_pixels = options.image_pixels
        self._request_ids = itertools.count()
        self._lora_ids = itertools.count(2)
        self._prefix = uuid.uuid4().hex[:8]
        self._lora: LoRARequest | None = None
        import_engine_ahead(options)
        on_cpu = is_on_cpu()
        if adapter and on_cpu:
            assert cache is not None, "a merged adapter needs a cache folder"
            merged = merge_adapter(Path(options.model), adapter, cache)
            options = options._replace(model=str(merged))
        elif adapter:
            from vllm.lora import request

            self._lora = request.LoRARequest(adapter.name, 1, str(adapter.folder))
        attach = self._lora is not None or options.attachable > 0
        self._engine = start_engine(options, attach)
        self._sees_pictures = takes_pictures(self._engine)
        self._line_ends = line_ends(self._engine.get_tokenizer())
        told = self._engine.model_config.try_get_generation_config()
        self._ends = answer_ends(self._engine.get_tokenizer(), told)

    async def attached(self, adapter: Adapter) -> "VLLMRewriter":
        """The same engine with another adapter. Both answer, each with its own adapter.

        Close only the original; :meth:`detach` frees the memory of the adapter.

        Raises:
            InputError: vLLM rejects the adapter. The engine goes on running.
            RewriterDown: the engine has died.
        """
        from vllm.lora.request import LoRARequest
        from vllm.v1.engine.exceptions import EngineDeadError

        other = copy.copy(self)
        other._adapter = adapter
        # vLLM identifies an adapter by this number, so a number is never reused.
        other._lora = LoRARequest(adapter.name, next(self._lora_ids), str(adapter.folder))
        try:
            # If the first request loaded them, weights that do not fit would kill the engine.
            await self._engine.add_lora(other._lora)
        except EngineDeadError as error:
            raise RewriterDown("vLLM's engine has died.") from error
        except Exception as error:  # the engine raises nothing more specific
            await other.detach()  # it may be partially loaded
            reason = str(error).strip().splitlines()[-1]
            raise InputError(f"vLLM does not attach {adapter.name}: {reason}") from error
        return other

    async def detach(self) -> None:
        """Undoes :meth:`attached`."""
        if self._lora:
            await self._engine.remove_lora(self._lora.lora_int_id)

    @property
    def adapter(self) -> str | None:
        return self._adapter.name if self._adapter else None

    @property
    def sees_pictures(self) -> bool:
        return self._sees_pictures

    async def complete(
        self,
        prompt: Prompt,
        sampling: Sampling,
        on_text: OnText | None = None,
        within_s: float | None = None,
    ) -> Completions:
        with _failures_told():
            engine_input = await self._engine_input(prompt)
            # The words of a branch cannot be put behind an image.
            if sampling.finds_several and prompt.picture is None:
                search = self._branch_search(prompt, engine_input["prompt_token_ids"])
                return await search.run(sampling, on_text, within_s)
            return await self._drawn(prompt, sampling, engine_input, on_text)

    async def log_likelihoods(self, asked: Continuation) -> list[float]:
        scoring = VLLMScoring(
            self._engine, self._answers, self._line_ends[0], f"{self._prefix}-{self._next_id()}"
        )
        with _failures_told():
            return await scoring.log_likelihoods(asked)

    async def written_tokens(self, prompts: Sequence[Prompt]) -> list[WrittenTokens]:
        with _failures_told():
            try:
                # If one fails, the engine need not write the others.
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._written_tokens(one)) for one in prompts]
            except ExceptionGroup as failed:
                raise failed.exceptions[0] from None
            return [task.result() for task in tasks]

    async def _written_tokens(self, prompt: Prompt) -> WrittenTokens:
        parameters = self._parameters(Sampling(), prompt) | {"logprobs": _CONSIDERED}
        tokens, likely = [], []
        async for output in self._answers(await self._engine_input(prompt), parameters, False):
            answer = output.outputs[0]
            for token, options in zip(answer.token_ids, answer.logprobs or (), strict=False):
                tokens.append(self._text_of(token))
                considered = (options or {}).items()
                likely.append({self._text_of(id): math.exp(one.logprob) for id, one in considered})
        return WrittenTokens(tokens, likely)

    def _text_of(self, token: int) -> str:
        return str(self._engine.get_tokenizer().decode([token]))

    async def _drawn(
        self, prompt: Prompt, sampling: Sampling, engine_input: Any, on_text: OnText | None
    ) -> Completions:
        """Drawn answers, or the greedy one."""
        shared = self._parameters(sampling, prompt)
        greedy = sampling.temperature == 0
        # Several samples would be streamed separately.
        streams = on_text if shared["n"] == 1 else None
        parameters = {**shared, "logprobs": 0 if greedy else None}
        answers: list[Completion] = []
        async for output in self._answers(engine_input, parameters, streams is not None):
            if streams:
                streams(output.outputs[0].text)
            if output.finished:
                answers = [
                    Completion(answer.text, _probability(answer.cumulative_logprob))
                    for answer in output.outputs
                ]
        return Completions(answers)

    def _branch_search(self, prompt: Prompt, prompt_ids: list[int]) -> BranchSearch:
        tokenizer = self._engine.get_tokenizer()
        search = f"{self._prefix}-{self._next_id()}"
        shares_prompt = self._engine.vllm_config.kv_transfer_config is not None
        # Branches that are given up later cost no other request its time.
        alone = not self._engine.output_processor.has_unfinished_requests()

        def stream(
            tokens: Sequence[int], alternatives: int, with_text: bool
        ) -> AsyncGenerator["RequestOutput"]:
            (rendered,) = self._engine.renderer.render_cmpl(
                [{"prompt_token_ids": [*prompt_ids, *tokens]}]
            )
            parameters = self._parameters(Sampling(), prompt) | {
                "logprobs": alternatives,
                "detokenize": with_text,
                "max_tokens": max(1, prompt.form.max_tokens - len(tokens)),
            }
            if shares_prompt:
                marks = {"search": search, "greedy": not tokens, "waits": alone}
                parameters["extra_args"] = {"kv_transfer_params": marks}
            return self._answers(rendered, parameters, streams=True)

        async def go_on() -> None:
            await self._engine.engine_core.abort_requests_async([f"{search}-go-on"])

        return BranchSearch(
            stream,
            lambda tokens: str(tokenizer.decode(tokens, skip_special_tokens=True)),
            self._ends,
            eager=alone,
            go_on=go_on if alone and shares_prompt else None,
        )

    def _parameters(self, sampling: Sampling, prompt: Prompt) -> dict[str, Any]:
        """The engine's parameters. It stops by tokens.

        A string is looked for in the text, which is written in this process: until it is found and
        the engine has heard of it, the engine has computed another token of each answer.
        """
        return sampling.parameters(prompt) | {"stop": None, "stop_token_ids": self._line_ends}

    def _answers(
        self, engine_input: Any, parameters: dict[str, Any], streams: bool
    ) -> AsyncGenerator["RequestOutput"]:
        """What the engine writes; only what is finished, unless it streams."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        kind = RequestOutputKind.CUMULATIVE if streams else RequestOutputKind.FINAL_ONLY
        return self._engine.generate(
            engine_input,
            # They belong to this request alone, so the engine need not copy them.
            SamplingParams(**parameters, output_kind=kind, skip_clone=True),
            f"{self._prefix}-{self._next_id()}",
            lora_request=self._lora,
        )

    async def _engine_input(self, prompt: Prompt) -> Any:
        """The engine's input: the prompt of the task, or a chat about the images."""
        if prompt.candidates:
            return await candidates_prompt(
                self._engine, prompt.query, prompt.candidates, self._image_pixels
            )
        if prompt.picture is not None:
            return await picture_prompt(
                self._engine, prompt.query, prompt.picture, self._image_pixels
            )
        text = prompt.task.prompt(prompt.query)
        (rendered,) = self._engine.renderer.render_cmpl([{"prompt": text}])
        return rendered

    def _next_id(self) -> int:
        return next(self._request_ids)

    async def check(self) -> None:
        if self._engine.errored:
            raise RewriterDown("vLLM's engine has died.")

    async def close(self) -> None:
        # Otherwise it reports this shutdown as the death of the engine.
        if self._engine.output_handler is not None:
            self._engine.output_handler.cancel()
        await asyncio.to_thread(self._engine.shutdown)
        # Its finalizer fails if it runs when the interpreter exits.
        del self._engine


@contextlib.contextmanager
def _failures_told() -> Iterator[None]:
    """Raises our own errors for those of vLLM."""
    from vllm.exceptions import VLLMClientError
    from vllm.v1.engine.exceptions import EngineDeadError

    try:
        yield
    except EngineDeadError as error:
        raise RewriterDown("vLLM's engine has died.") from error
    except (VLLMClientError, ValueError) as error:  # for example a prompt that is too long
        # vLLM wraps the message of the model's own processor.
        reason = str(error.__cause__ or error).strip() or repr(error)
        raise RewriteFailed(reason.splitlines()[0]) from error


def _probability(logprob: float | None) -> float | None:
    return None if logprob is None else math.exp(logprob)
