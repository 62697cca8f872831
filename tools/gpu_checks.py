"""The checks of :mod:`tools.gpu_check`. Each prints what it measured as Markdown."""

import asyncio
import itertools
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from models.demo.prepare import prepare_gallery
from tools.random_models import LLMS, TINY_LLM, Shape, write_adapter, write_encoder, write_llm

GRAPE = Path(sys.executable).with_name("grape")
WORDS = ("ein Hund im Schnee", "吉他", "caballo", "slon", "Regenschirm", "bicicleta roja")


class Sizes(NamedTuple):
    """How large everything is."""

    device: str
    llms: dict[str, Shape]
    encoders: dict[str, int | None]  # architecture, and how many layers of it
    pictures: int
    ranks: tuple[int, ...]
    rewrites: int
    clients: tuple[int, ...]
    requests: int  # of each number of clients
    grpo: dict[str, int]


FULL = Sizes(
    "cuda", LLMS, {"ViT-B-32": None, "ViT-L-14": None}, 512, (16, 32, 64), 256,
    (1, 8, 32, 128, 256), 512, {"steps": 3, "prompts_per_step": 32, "group_size": 8},
)  # fmt: skip
SMOKE = Sizes(
    "cpu", {"tiny": TINY_LLM}, {"ViT-B-32": 1}, 4, (4,), 4, (1, 2), 4,
    {"steps": 2, "prompts_per_step": 2, "group_size": 2},
)  # fmt: skip


def encoder(sizes: Sizes, folder: Path) -> None:
    """Vectors and speed of each precision."""
    import numpy as np
    from PIL import Image

    from models.retriever.clip_encoder import ClipEncoder, Precision

    noise = np.random.default_rng(0).integers(0, 255, (sizes.pictures, 224, 224, 3), np.uint8)
    pictures = [Image.fromarray(pixels) for pixels in noise]
    texts = [f"{word} {number}" for number, word in enumerate(WORDS * (sizes.pictures // 4))]
    precisions: tuple[Precision, ...] = ("fp32", "bf16", "fp16")
    print("| encoder | precision | pictures/s | texts/s | least cosine to fp32 | GPU memory |")
    print("|---|---|---:|---:|---:|---:|")
    for name, layers in sizes.encoders.items():
        where = write_encoder(folder / f"encoder-{name}", name, layers)
        exact: Any = None
        for precision in precisions:
            _reset_peak(sizes)
            model = ClipEncoder(f"local-dir:{where}", None, sizes.device, precision)
            model.encode_images(pictures[:2])  # the first call is slow
            began = time.perf_counter()
            vectors = model.encode_images(pictures)
            seen = time.perf_counter()
            words = model.encode_texts(texts)
            read = time.perf_counter()
            both = np.concatenate([vectors, words])
            exact = both if exact is None else exact
            least = float((both * exact).sum(1).min())
            print(
                f"| {name} | {precision} | {len(pictures) / (seen - began):.0f} | "
                f"{len(texts) / (read - seen):.0f} | {least:.4f} | {_peak(sizes)} |"
            )


def adapters(sizes: Sizes, folder: Path) -> None:
    """Rewrites of the base model, and of an adapter of each rank, which must differ."""
    asyncio.run(_adapters(sizes, folder))


async def _adapters(sizes: Sizes, folder: Path) -> None:
    from models.rewriter.vllm import VLLMOptions, VLLMRewriter
    from models.rewriter.vllm_engine import attaches_adapters

    name = next(iter(sizes.llms))
    base = write_llm(folder / f"adapters-{name}", sizes.llms[name])
    opened = [_opened(folder / f"lora-{rank}", base, rank) for rank in sizes.ranks]
    attached = attaches_adapters()
    print("| model | adapter | rewrites/s | answers unlike the base model's |")
    print("|---|---|---:|---:|")
    options = VLLMOptions(
        str(base), max_model_len=1024, kv_cache_gib=0.1, attachable=len(opened) * attached
    )
    rewriter = VLLMRewriter(options)
    plain, speed = await _rewrites(rewriter, sizes.rewrites)
    print(f"| {name} | none | {speed:.1f} | |")
    for rank, adapter in zip(sizes.ranks, opened, strict=True):
        if attached:
            other = await rewriter.attached(adapter)
        else:  # a CPU merges
            await rewriter.close()
            rewriter = other = VLLMRewriter(options, adapter, folder / "merged")
        answers, speed = await _rewrites(other, sizes.rewrites)
        unlike = sum(a != b for a, b in zip(answers, plain, strict=True)) / len(plain)
        how = "attached" if attached else "merged"
        print(f"| {name} | rank {rank}, {how} | {speed:.1f} | {unlike:.0%} |")
        assert unlike, f"the adapter of rank {rank} changes nothing: it is not applied"
    await rewriter.close()


def switching(sizes: Sizes, folder: Path) -> None:
    """Adapters are attached and detached while others answer; nothing may fail."""
    asyncio.run(_switching(sizes, folder))


async def _switching(sizes: Sizes, folder: Path) -> None:
    from models.rewriter.vllm import VLLMOptions, VLLMRewriter
    from models.rewriter.vllm_multi_adapter import SharedEngine

    name = next(iter(sizes.llms))
    base = write_llm(folder / f"switching-{name}", sizes.llms[name])
    opened = [_opened(folder / f"switched-{rank}", base, rank) for rank in sizes.ranks]
    options = VLLMOptions(str(base), max_model_len=1024, attachable=2)
    shared = SharedEngine(lambda: VLLMRewriter(options))
    steady = await shared.attach(None)
    done = asyncio.Event()
    answered = 0

    async def load() -> None:
        nonlocal answered
        while not done.is_set():
            answers, _ = await _rewrites(steady, 8)
            answered += len(answers)

    loading = [asyncio.create_task(load()) for _ in range(8)]
    times = []
    for adapter in itertools.islice(itertools.cycle(opened), 4 * len(opened)):
        began = time.perf_counter()
        rewriter = await shared.attach(adapter)
        await _rewrites(rewriter, 8)
        times.append(time.perf_counter() - began)
        await rewriter.close()
    done.set()
    await asyncio.gather(*loading)
    await steady.close()
    print(
        f"{len(times)} switches with 8 rewrites each: median {statistics.median(times):.2f} s, "
        f"slowest {max(times):.2f} s; {answered} other rewrites meanwhile, none failed."
    )


def grpo(sizes: Sizes, folder: Path) -> None:
    """A training of a few steps, with GRAPE's own rollouts."""
    _trainings(sizes, folder, "grouped")


def colocated(sizes: Sizes, folder: Path) -> None:
    """The same with TRL's loop and vLLM on the same GPU."""
    _trainings(sizes, folder, "vllm-colocate")


def _trainings(sizes: Sizes, folder: Path, rollouts: str) -> None:
    prepare_gallery()
    print("| model | rewrites a step | seconds a step | most memory |")
    print("|---|---:|---:|---:|")
    for name, shape in sizes.llms.items():
        base = folder / f"llm-{name}"
        if not base.is_dir():
            write_llm(base, shape)
        flags = {
            **sizes.grpo, "llm": base, "out": folder / f"out-{name}-{rollouts}",
            "rollouts": rollouts, "tasks": "multilingual", "learning_rate": 1e-3,
            "micro_batch": min(16, sizes.grpo["prompts_per_step"] * sizes.grpo["group_size"]),
            "validation_every": 100, "validation_queries": '{"multilingual": 4}',
            "test_queries": "{}", "encoder_device": sizes.device,
        }  # fmt: skip
        arguments = [f"--{key.replace('_', '-')}={value}" for key, value in flags.items()]
        command = [str(GRAPE), "train", "--no-warm-start", *arguments]
        seconds, memory = _timed(command, sizes)
        rewrites = sizes.grpo["prompts_per_step"] * sizes.grpo["group_size"]
        print(f"| {name} | {rewrites} | {seconds} | {memory} |", flush=True)


def _timed(command: Sequence[str], sizes: Sizes) -> tuple[str, str]:
    """Seconds between the reports of two steps, and the most memory; or why it failed."""
    running = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    most = [0.0]
    watching = threading.Thread(target=_watch_memory, args=(running, sizes, most), daemon=True)
    watching.start()
    times, last = [], ""
    assert running.stderr
    for line in running.stderr:
        if re.match(r"step \d+", line):
            times.append(time.monotonic())
        last = line.strip() or last
    if running.wait() and not times:
        return f"failed: {last[:150]}", ""
    steps = [after - before for before, after in itertools.pairwise(times)]
    told = f"{statistics.median(steps):.1f}" if steps else "one step only"
    return told, f"{most[0] / 2**30:.1f} GiB"


def _watch_memory(running: "subprocess.Popen[str]", sizes: Sizes, most: list[float]) -> None:
    import psutil

    from models.common.findings import gpus

    while running.poll() is None:
        if sizes.device == "cuda":
            taken = max((gpu.total - gpu.free for gpu in gpus()), default=0.0)
        else:
            try:
                taken = float(psutil.Process(running.pid).memory_info().rss)
            except psutil.NoSuchProcess:
                return
        most[0] = max(most[0], taken)
        time.sleep(0.2)


async def _rewrites(rewriter: Any, count: int) -> tuple[list[str], float]:
    """Greedy answers, and how many of them a second."""
    from models.rewriter.protocol import Prompt, Sampling
    from models.rewriter.tasks import MULTILINGUAL

    prompts = [Prompt(MULTILINGUAL.short, f"{WORDS[n % len(WORDS)]} {n}") for n in range(count)]
    began = time.perf_counter()
    found = await asyncio.gather(*(rewriter.complete(prompt, Sampling()) for prompt in prompts))
    return [one.answers[0].text for one in found], count / (time.perf_counter() - began)


def _opened(folder: Path, base: Path, rank: int) -> Any:
    """A new adapter as the product holds one that it has checked."""
    from models.rewriter.adapter import Adapter, AdapterManifest, Canary

    write_adapter(folder, base, rank)
    canary = Canary(task="multilingual", query="q", base="a", tuned="b")
    manifest = AdapterManifest(
        base_model=base.name, base_revision="r", tasks={"multilingual": ""}, encoder="e",
        encoder_weights_sha256="", corpus_sha256="", reward={}, seed=0, versions={},
        metrics_before={}, metrics_after={}, canaries=[canary],
    )  # fmt: skip
    return Adapter(folder=folder, manifest=manifest, rank=rank, content_sha256=f"{rank:064}")


def _reset_peak(sizes: Sizes) -> None:
    import torch

    if sizes.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peak(sizes: Sizes) -> str:
    import torch

    return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if sizes.device == "cuda" else ""
