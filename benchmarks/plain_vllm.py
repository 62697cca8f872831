"""vLLM as it comes, with the demo's checkpoint: the floor of `/rewrite`.

It has none of GRAPE's own parts: no sampler, scheduler or connector. It stops at the end of a line
and tells no probabilities, which a greedy answer does not need.
"""

import itertools
import os
from typing import TYPE_CHECKING

from models.common import paths
from models.rewriter.adapter import open_adapter
from models.rewriter.base_model import checkpoint_revision
from models.rewriter.merge import merge_adapter
from models.rewriter.protocol import Prompt, Sampling
from models.rewriter.tasks import choose_task
from models.rewriter.vllm import VLLMOptions
from models.rewriter.vllm_engine import is_on_cpu

if TYPE_CHECKING:
    from vllm import RequestOutput

_OPTIONS = VLLMOptions("", "bfloat16")
# As GRAPE sets them: one process for the engine and its worker, and all cores for both.
_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))),
}


class PlainVLLM:
    """An engine in a process of its own, as large as the one that `grape serve` starts."""

    def __init__(self) -> None:
        base = paths.checkpoint_dir(paths.DEFAULT_LLM)
        self._adapter = open_adapter(paths.ADAPTER, checkpoint_revision(base))
        merged = merge_adapter(base, self._adapter, paths.merged_dir())
        os.environ |= _ENVIRONMENT
        assert is_on_cpu(), "the floor is measured on a CPU"
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self._engine = AsyncLLM.from_engine_args(
            AsyncEngineArgs(
                model=str(merged),
                dtype=_OPTIONS.dtype,
                max_model_len=_OPTIONS.max_model_len,
                max_num_seqs=_OPTIONS.max_num_seqs,
                kv_cache_memory_bytes=int(_OPTIONS.kv_cache_gib * 2**30),
                enforce_eager=True,  # compiling takes a minute and gains little at this size
                disable_log_stats=True,
            )
        )
        self._names = itertools.count()

    async def write(self, text: str) -> "RequestOutput":
        """The greedy rewrite, with the prompt that GRAPE gives the engine."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        task = self._adapter.tasks[choose_task(text).name]
        prompt = Prompt(task, text)
        parameters = SamplingParams(
            **Sampling().parameters(prompt), output_kind=RequestOutputKind.FINAL_ONLY
        )
        (output,) = [
            output
            async for output in self._engine.generate(
                task.prompt(text), parameters, f"plain-{next(self._names)}"
            )
        ]
        return output

    def close(self) -> None:
        self._engine.shutdown()
        del self._engine  # its finalizer fails if it runs when the interpreter exits
