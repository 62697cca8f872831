"""Adapters change under load in a real server, by the commands of docs/adapters.md, and two are
attached to one real engine.
"""

import asyncio
import json
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.common import paths
from models.common.errors import InputError
from models.rewriter.adapter import Adapter, content_hash, open_adapter
from models.rewriter.protocol import Prompt, Sampling
from models.rewriter.tasks import TASKS, parse_rewrite
from models.rewriter.vllm import VLLMOptions, VLLMRewriter
from models.rewriter.vllm_multi_adapter import SharedEngine
from service.commands import Serve
from tests.e2e.test_docs import ROOT, shell_lines
from tests.support.grape_server import Server
from tests.support.taught_adapters import LLM, prepared, teach

SERVE, LOOK, LOAD, ROLLBACK, SERVE_REDIS = shell_lines((ROOT / "docs/adapters.md").read_text())
BOTH = ["multilingual", "long"]
DESCRIPTION = "ein Bild von einem roten Drachen, der auf einem hohen Berg sitzt und schläft"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("registry")
    teach(folder / "alpha", "alpha", BOTH)
    teach(folder / "beta", "beta", ["multilingual"], seed=1)
    yield folder
    taught = {content_hash(adapter) for adapter in folder.iterdir()}
    for content in taught:
        for merged in paths.merged_dir().glob(f"*-{content[:12]}-on-*"):
            shutil.rmtree(merged)  # half a gigabyte
    for copy in (paths.cache_dir() / "adapters").iterdir():
        if content_hash(copy) in taught:
            shutil.rmtree(copy)


class Crowd:
    """Clients that ask without a pause, and what each was answered."""

    def __init__(self, server: Server, clients: int) -> None:
        self._server = server
        self._stop = threading.Event()
        self.answers: list[tuple[str, str, str]] = []  # status, text, adapter
        self._threads = [
            threading.Thread(target=self._ask, args=(number,)) for number in range(clients)
        ]

    def __enter__(self) -> "Crowd":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        asked = 0
        while not self._stop.is_set():
            asked += 1
            # Some are new and some were asked before.
            query = f"Wort {number * 1000 + asked if asked % 3 else asked % 5}"
            response = self._server.client.post("/rewrite", json={"query": query})
            (result,) = response.json()["results"]
            text = result["rewrites"][0]["text"]
            self.answers.append((result["status"], text, result["adapter"]))


class Live(NamedTuple):
    server: Server

    def run(self, line: str) -> dict[str, Any]:
        """A command of the docs, on this server; `birds` is beta here."""
        line = line.replace("http://127.0.0.1:8000", self.server.url).replace("birds", "beta")
        done = subprocess.run(shlex.split(line), capture_output=True, text=True, check=True)
        told = json.loads(done.stdout)
        assert "served" in told, told
        return {task: slot["adapter"] for task, slot in told["served"].items()}

    def rewritten(self, query: str) -> str:
        (result,) = self.server.client.post("/rewrite", json={"query": query}).json()["results"]
        return str(result["rewrites"][0]["text"])

    def engines(self) -> int:
        return sum("EngineCore" in child.name() for child in self.server.children())


@pytest.mark.slow
def test_merged_checkpoints_are_swapped_under_load(registry: Path, tmp_path: Path) -> None:
    alpha, beta = (open_adapter(registry / name, None).name for name in ("alpha", "beta"))
    word = {alpha: "alpha", beta: "beta"}
    flags = ["--llm", LLM, "--adapter", str(registry / "alpha"), "--llm-kv-cache-gib", "0.25"]
    flags += ["--adapter-registry", str(registry), "--rewrite-timeout-s", "30"]
    server = Server(tmp_path / "log", *flags)
    live = Live(server)
    try:
        server.wait_until_ready()
        assert server.client.get("/info").json()["llm"] == LLM
        assert live.rewritten("Wort 1") == "alpha"
        assert live.run(LOOK) == dict.fromkeys(TASKS, alpha)
        with Crowd(server, clients=6) as crowd:
            served = live.run(LOAD)
            after = len(crowd.answers)
            assert live.rewritten("Wort 1") == "beta"
        assert served == {"multilingual": beta, "long": alpha, "composed": alpha, "rerank": alpha}
        assert {status for status, _, _ in crowd.answers} == {"rewritten"}
        assert all(text == word[adapter] for _, text, adapter in crowd.answers)
        assert crowd.answers[0][1] == "alpha"
        # Answers of the old one that were on their way may be told last, one a client.
        assert {text for _, text, _ in crowd.answers[after + 6 :]} <= {"beta"}
        # Each task has its own, and `auto` finds it.
        assert live.engines() == 2
        assert live.rewritten(DESCRIPTION) == "alpha"

        with Crowd(server, clients=2) as crowd:
            assert live.run(ROLLBACK) == dict.fromkeys(served, alpha)
        assert {status for status, _, _ in crowd.answers} == {"rewritten"}
        assert all(text == word[adapter] for _, text, adapter in crowd.answers)
        assert live.rewritten("Wort 1") == "alpha"
        server.wait_for(lambda: live.engines() == 1, 10)
    finally:
        server.stop()


@pytest.mark.slow
async def test_adapters_are_attached_to_one_engine(registry: Path, tmp_path: Path) -> None:
    """The way of a GPU; on a CPU vLLM computes it too, slowly."""
    alpha, beta = (_opened(registry / name, tmp_path) for name in ("alpha", "beta"))
    options = VLLMOptions(str(prepared()), dtype="float32", kv_cache_gib=0.25, attachable=3)
    started: list[VLLMRewriter] = []

    def start() -> VLLMRewriter:
        started.append(VLLMRewriter(options))
        return started[-1]

    shared = SharedEngine(start)
    slots = [await shared.attach(adapter) for adapter in (None, alpha, beta)]

    async def ask(slot: int, query: str) -> str | None:
        task = alpha.tasks["multilingual"]
        ((answer,), _) = await slots[slot].complete(Prompt(task, query), Sampling())
        return parse_rewrite(answer.text)

    # At once in one batch, with a prefix that all share; then A, B and A again on a warm cache.
    asked = [(slot, f"Wort {number}") for number in range(2) for slot in range(3)]
    answers = await asyncio.gather(*(ask(*one) for one in asked))
    words = {slot: {a for (v, _), a in zip(asked, answers, strict=True) if v == slot}
             for slot in range(3)}  # fmt: skip
    assert words[1] == {"alpha"}
    assert words[2] == {"beta"}
    assert not words[0] & {"alpha", "beta"}
    await slots[1].close()
    # Nothing is read from a served adapter's folder again.
    shutil.rmtree(beta.folder)
    assert [await ask(2, "Wort 0"), await ask(2, "Wort 9")] == ["beta", "beta"]
    slots[1] = await shared.attach(alpha)
    assert [await ask(1, "Wort 0"), await ask(2, "Wort 0")] == ["alpha", "beta"]

    # Weights that do not fit are refused, and the engine lives on.
    misfit = tmp_path / "misfit"
    shutil.copytree(registry / "alpha", misfit)
    weights = load_file(misfit / "adapter_model.safetensors")
    wide = {name: torch.cat([tensor, tensor], -1) for name, tensor in weights.items()}
    save_file(wide, misfit / "adapter_model.safetensors")
    with pytest.raises(InputError, match="vLLM does not attach"):
        await shared.attach(open_adapter(misfit, None))
    assert await ask(2, "Wort 1") == "beta"

    assert len(started) == 1
    for slot in slots:
        await slot.close()


def test_the_settings_of_the_docs_are_understood() -> None:
    serving = Serve(_cli_parse_args=shlex.split(SERVE)[2:])
    assert serving.adapter_registry == Path("adapters")
    serving = Serve(_cli_parse_args=shlex.split(SERVE_REDIS)[2:])
    assert serving.redis_url
    assert serving.redis_url.get_secret_value() == "redis://127.0.0.1:6379/0"


def _opened(folder: Path, tmp_path: Path) -> Adapter:
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    return open_adapter(copy, None)
