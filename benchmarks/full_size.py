"""Models of the sizes that people use, with random weights, on this machine: what they cost.

    python -m benchmarks.full_size [--only 0.5B] [--write]

A rewriter of Qwen2.5's shape beside one of open_clip's encoders. Weights are random, which changes
neither time nor memory; a rewrite is as long as it may be, because a random model does not stop.
The second table has what the arithmetic of docs/deploy.md and `grape train` says, with the rates of
this machine. Each part is a process of its own. ``--write`` puts both into docs/deploy.md.
"""

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import httpx

from benchmarks.index_build import draw
from benchmarks.load import Load, closed_loop, family, in_own_process, resident_gib
from benchmarks.pages import DOCS, write_between
from models.rewriter.tasks import MULTILINGUAL
from tests.support.grape_server import GRAPE, Server
from tools.random_models import LLMS, write_encoder, write_llm

PAGE = DOCS / "deploy.md"
PAIRS = {"0.5B": "ViT-B-32", "1.5B": "ViT-L-14"}
PICTURES = {"ViT-B-32": 384, "ViT-L-14": 64}
CLIENTS = (1, 8)
REQUESTS = {1: 6, 8: 24}
SEARCHES = {1: 200, 8: 800}
WORDS = ("ein Hund im Schnee", "吉他", "caballo", "slon", "Regenschirm", "bicicleta roja")
GRPO: dict[str, Any] = {"prompts_per_step": 8, "group_size": 8, "micro_batch": 16, "steps": 3}
_STREAM_BYTES = 2**30  # that are read to measure the memory's bandwidth
_CACHE_GIB = 1.0  # of vLLM's cache


class Served(NamedTuple):
    """A server under load."""

    as_typed_s: float  # until the first answer without rewriting
    rewritten_s: float  # until /readyz
    planned_gib: float  # what `grape serve --plan` says
    resident_gib: float  # of all processes, shared pages counted once
    searches: dict[int, Load]  # by clients
    rewrites: dict[int, Load]


class Trained(NamedTuple):
    """A step of GRPO, and its estimate."""

    seconds: float
    computed_seconds: float
    gigabytes: float
    computed_gigabytes: float


def build(folder: Path, encoder: str) -> float:
    """Pictures a second that are read and encoded."""
    from models.retriever.build import build_from_folder
    from models.retriever.clip_encoder import ClipEncoder
    from models.retriever.picture_worker import close, warm_up

    opened = ClipEncoder(f"local-dir:{folder / 'encoder'}")
    draw(folder / "pictures", PICTURES[encoder])
    warm_up()
    began = time.perf_counter()
    index, _ = build_from_folder(folder / "pictures", opened)
    index.save(folder / "index")
    seconds = time.perf_counter() - began
    close()  # a process of multiprocessing would wait for its own
    return len(index) / seconds


def serve(folder: Path) -> Served:
    """Starts a server with both models, and asks it."""
    flags = ["--index", folder / "index", "--llm", folder / "llm", "--adapter", "none"]
    flags += ["--rewrite-cache", "0", "-n", "1", "--rewrite-timeout-s", "300"]
    flags += ["--llm-kv-cache-gib", _CACHE_GIB]
    planned = planned_gib(list(map(str, flags)))
    began = time.monotonic()
    server = Server(folder / "serve.log", *map(str, flags))
    server.client.timeout = httpx.Timeout(600)
    try:
        server.wait_for(lambda: answers(server), 300)
        as_typed = time.monotonic() - began
        server.wait_until_ready(600)
        rewritten = time.monotonic() - began
        searches = {n: asyncio.run(load(server, "never", n, SEARCHES[n])) for n in CLIENTS}
        rewrites = {n: asyncio.run(load(server, "always", n, REQUESTS[n])) for n in CLIENTS}
        resident = resident_gib(family(server))
    finally:
        server.stop()
    return Served(as_typed, rewritten, planned, resident, searches, rewrites)


def planned_gib(flags: list[str]) -> float:
    """The memory that `grape serve --plan` expects."""
    command = [str(GRAPE), "serve", "--plan", "--json", *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    findings = map(json.loads, done.stdout.splitlines())
    (told,) = (finding["sentence"] for finding in findings if finding["part"] == "memory")
    return float(told.removeprefix("about ").split()[0])


def answers(server: Server) -> bool:
    try:
        asked = {"query": "a dog", "rewrite": "never"}
        return server.client.post("/search", json=asked).is_success
    except httpx.TransportError:
        return False


async def load(server: Server, rewrite: str, clients: int, requests: int) -> Load:
    timeout = aiohttp.ClientTimeout(total=600)
    async with aiohttp.ClientSession(server.url, timeout=timeout) as session:

        async def ask(text: str) -> None:
            body = {"query": text, "rewrite": rewrite}
            async with session.post("/search", json=body) as response:
                assert response.status == 200, await response.text()

        texts = [f"{WORDS[number % len(WORDS)]} {number}" for number in range(requests + clients)]
        await closed_loop(ask, texts[requests:], clients)  # warm-up
        return await closed_loop(ask, texts[:requests], clients)


def train(folder: Path) -> Trained:
    """Steps of GRPO from a new adapter, and then their estimate."""
    from transformers import AutoConfig

    from training.data.sources import load_rows
    from training.rewards.scorer import Scorer, load_retriever
    from training.settings import TrainSettings
    from training.stages import grpo
    from training.stages.cost import Shape, count_work, step_cost, this_machine
    from training.stages.language_model import LanguageModel, quick_dtype
    from training.stages.training_run import TrainingRun

    settings = TrainSettings(
        llm=str(folder / "llm"), work=folder / "work", tasks=["multilingual"], rollouts="grouped",
        validation_queries={"multilingual": 2}, validation_every=100, save_every=1000, beta=0.0,
        **GRPO,
    )  # fmt: skip
    base = LanguageModel.named(settings.llm)
    tasks = {"multilingual": MULTILINGUAL.short}
    scorer = Scorer(load_retriever(settings))
    run = TrainingRun(settings, base, tasks, load_rows(settings.data), scorer)
    steps = grpo.train_grpo(run, None).steps[1:]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    tokens: Any = base.tokenizer()
    shape = Shape.of(AutoConfig.from_pretrained(base.path), quick_dtype().itemsize)
    rows = [row for row in run.rows if row.task == "multilingual" and row.split == "train"]
    asked = [tasks["multilingual"].prompt(row.asked) for row in rows[: settings.prompts_per_step]]
    prompts = [tuple(ids) for ids in tokens(asked)["input_ids"]]
    length, size = tasks["multilingual"].max_tokens, settings.group_size
    groups = [[tuple(range(100 + n, 100 + n + length)) for n in range(size)] for _ in prompts]
    work = count_work(prompts, groups, settings.micro_batch // size, packed=True)
    computed = step_cost(
        shape, work, this_machine(shape, quick_dtype()), settings.beta > 0, settings.lora_rank
    )
    measured = statistics.mean(step["step_time"] for step in steps)
    return Trained(measured, computed.seconds, peak / 1e9, computed.bytes / 1e9)


def bandwidth() -> float:
    """Bytes of memory that one sum over all cores reads in a second; the best of five."""
    import torch

    numbers = torch.ones(_STREAM_BYTES // 4)
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        numbers.sum()
        seconds.append(time.perf_counter() - began)
    return _STREAM_BYTES / min(seconds)


class Measured(NamedTuple):
    """A pair of models."""

    llm: str
    encoder: str
    weights: int  # bytes of the language model
    pictures_per_second: float
    served: Served
    trained: Trained


def measure(llm: str) -> Measured:
    """All of one pair."""
    encoder = PAIRS[llm]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        in_own_process(write_llm, folder / "llm", LLMS[llm])
        in_own_process(write_encoder, folder / "encoder", encoder)
        weights = sum(file.stat().st_size for file in (folder / "llm").glob("*.safetensors"))
        speed = in_own_process(build, folder, encoder)
        served = serve(folder)
        return Measured(llm, encoder, weights, speed, served, in_own_process(train, folder))


def figures(found: Measured) -> dict[str, str]:
    """What was measured of a pair, by what it is."""
    served, trained = found.served, found.trained
    told = {
        "start to the first answer as typed, s": f"{served.as_typed_s:.1f}",
        "start until queries are rewritten, s": f"{served.rewritten_s:.0f}",
        "memory of all processes, GiB": f"{served.resident_gib:.1f}",
        "pictures a second of `grape index build`": f"{found.pictures_per_second:.1f}",
    }
    for clients in CLIENTS:
        who = "1 client" if clients == 1 else f"{clients} clients"
        typed, rewritten = served.searches[clients], served.rewrites[clients]
        told[f"search as typed, {who}, p50 ms"] = f"{typed.percentile_ms(50):.0f}"
        told[f"search rewritten, {who}, p50 s"] = f"{rewritten.percentile_ms(50) / 1000:.1f}"
    size = GRPO["prompts_per_step"] * GRPO["group_size"]
    told[f"a step of GRPO with {size} rewrites, s"] = f"{trained.seconds:.0f}"
    return {**told, "its memory, GB": f"{trained.gigabytes:.1f}"}


def estimates(found: Measured, read: float) -> Iterator[tuple[str, float, float]]:
    """What the arithmetic says and what was measured, of a pair.

    Args:
        read: bytes of memory a second.
    """
    llm, served, trained = found.llm, found.served, found.trained
    token = served.rewrites[1].percentile_ms(50) / MULTILINGUAL.max_tokens
    yield f"{llm}: ms a token, weights over bandwidth", found.weights / read * 1000, token
    yield f"{llm}: GiB, `grape serve --plan`", served.planned_gib, served.resident_gib
    yield f"{llm}: s a step of GRPO", trained.computed_seconds, trained.seconds
    yield f"{llm}: GB of GRPO", trained.computed_gigabytes, trained.gigabytes


def lines(found: list[Measured], read: float) -> Iterator[str]:
    """Both tables."""
    pairs = [f"{one.llm} and {one.encoder}" for one in found]
    yield f"| measured on two cores | {' | '.join(pairs)} |"
    yield "|---|" + "--:|" * len(found)
    columns = [figures(one) for one in found]
    for name in columns[0]:
        yield f"| {name} | {' | '.join(column[name] for column in columns)} |"
    yield ""
    yield "| the arithmetic, with this machine's rates | computed | measured | |"
    yield "|---|--:|--:|--:|"
    for one in found:
        for name, computed, measured in estimates(one, read):
            yield f"| {name} | {computed:.1f} | {measured:.1f} | {computed / measured - 1:+.0%} |"


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--write", action="store_true", help="put the tables into docs/deploy.md")
    arguments = parser.parse_args()
    read = in_own_process(bandwidth)
    print(f"memory is read at {read / 1e9:.1f} GB/s", flush=True)
    found = []
    for llm in arguments.only:
        found.append(measure(llm))
        print(found[-1], flush=True)
    table = "\n".join(lines(found, read))
    print(table)
    if arguments.write:
        write_between(PAGE, "full size", table)


if __name__ == "__main__":
    main()
