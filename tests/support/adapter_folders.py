"""Adapter folders that pass for real ones, and fake rewriters whose answers name their adapter."""

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from models.rewriter.adapter import Adapter
from models.rewriter.base_model import checkpoint_revision
from models.rewriter.likelihood import Continuation
from models.rewriter.protocol import (
    Completions,
    OnText,
    Prompt,
    RewriterDown,
    Sampling,
    WrittenTokens,
)
from models.rewriter.tasks import TASKS
from models.search.gate import GATE_JSON, Gate
from tests.support.completions import completions

CANARY = "Kanarienvogel"
BASE_ANSWER = "base"


def write_base(folder: Path) -> Path:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def write_adapter(
    folder: Path,
    base: Path,
    *tasks: str,
    weights: bytes = b"lora",
    gate: Gate | None = None,
    rank: int = 4,
    revision: str | None = None,
) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": rank}))
    (folder / "adapter_model.safetensors").write_bytes(weights)
    manifest = {
        "base_model": "tiny",
        "base_revision": revision or checkpoint_revision(base),
        "tasks": {task: TASKS[task].short.hash for task in tasks},
        "encoder": "demo",
        "encoder_weights_sha256": "0",
        "corpus_sha256": "0",
        "reward": {"name": "rank_log"},
        "seed": 0,
        "versions": {},
        "metrics_before": {},
        "metrics_after": {},
        "canaries": [
            {"task": task, "query": CANARY, "base": BASE_ANSWER, "tuned": "tuned"} for task in tasks
        ],
    }
    (folder / "grape.json").write_text(json.dumps(manifest))
    if gate:
        (folder / GATE_JSON).write_text(gate.model_dump_json())
    return folder


class Engines:
    """Starts a fake rewriter for each adapter and keeps track of them."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.start_error: Exception | None = None
        self.start_delay = 0.0
        self.unapplied = False  # answers like the base model
        self.alive: list[NamedRewriter] = []
        self.started: list[str | None] = []

    def start(self, settings: object, adapter: Adapter | None) -> "NamedRewriter":
        time.sleep(self.start_delay)  # in a thread, like the real one
        self.started.append(adapter.name if adapter else None)
        if adapter and self.start_error:
            raise self.start_error
        rewriter = NamedRewriter(self, adapter)
        self.alive.append(rewriter)
        return rewriter

    def of(self, name: str | None) -> "NamedRewriter":
        return next(rewriter for rewriter in self.alive if rewriter.adapter == name)


class NamedRewriter:
    """Every rewrite contains the name of the adapter that wrote it."""

    sees_pictures = False

    def __init__(self, engines: Engines, adapter: Adapter | None) -> None:
        self._engines = engines
        self._adapter = adapter
        self.dead = False

    @property
    def adapter(self) -> str | None:
        return self._adapter.name if self._adapter else None

    async def complete(
        self,
        prompt: Prompt,
        sampling: Sampling,
        on_text: OnText | None = None,
        within_s: float | None = None,
    ) -> Completions:
        assert self in self._engines.alive, "a closed rewriter was used"
        if prompt.query == CANARY:
            return completions(BASE_ANSWER if self._engines.unapplied else "tuned")
        await asyncio.sleep(self._engines.delay)
        await self._engines.may_answer.wait()
        await self.check()
        return completions(f"{self.adapter} wrote {prompt.query}")

    async def log_likelihoods(self, asked: Continuation) -> list[float]:
        await self.check()
        return [0.0] * len(asked.prompts)

    async def written_tokens(self, prompts: Sequence[Prompt]) -> list[WrittenTokens]:
        await self.check()
        return [WrittenTokens([], [])] * len(prompts)

    async def check(self) -> None:
        if self.dead:
            raise RewriterDown("the engine has died")

    async def close(self) -> None:
        self.dead = True  # for requests in flight
        self._engines.alive.remove(self)


class Stage(NamedTuple):
    client: httpx.AsyncClient
    engines: Engines
    registry: Path
    base: Path

    async def load(self, name: str) -> dict[str, Any]:
        response = await self.client.post("/admin/adapters", json={"name": name})
        assert response.status_code == 200, response.text
        told: dict[str, Any] = response.json()
        return told

    async def rollback(self) -> dict[str, Any]:
        response = await self.client.post("/admin/adapters", json={"rollback": True})
        assert response.status_code == 200, response.text
        told: dict[str, Any] = response.json()
        return told

    async def told(self) -> dict[str, Any]:
        told: dict[str, Any] = (await self.client.get("/admin/adapters")).json()
        return told

    async def rewritten(self, query: str, **wishes: object) -> dict[str, Any]:
        body = {"query": query, **wishes}
        (result,) = (await self.client.post("/rewrite", json=body)).json()["results"]
        if result["status"] == "rewritten":  # by the adapter that is named
            assert result["rewrites"][0]["text"] == f"{result['adapter']} wrote {query}"
        assert isinstance(result, dict)
        return result

    async def refused(self, name: str) -> str:
        """A load that fails changes nothing."""
        before = await self.told()
        alive = list(self.engines.alive)
        response = await self.client.post("/admin/adapters", json={"name": name})
        assert response.status_code == 422, response.text
        assert response.json()["error_type"] == "adapter_refused"
        assert await self.told() == before
        assert self.engines.alive == alive
        assert (await self.rewritten("noch da"))["status"] == "rewritten"
        return str(response.json()["error"])


def served(told: dict[str, Any]) -> dict[str, str | None]:
    return {task: slot["adapter"] for task, slot in told["served"].items()}
