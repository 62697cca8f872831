"""`grape train` with ``task: rerank`` for real, on a tiny model; then its adapter is evaluated."""

import json
from pathlib import Path

import pytest

from models.rewriter.adapter import open_adapter
from models.rewriter.base_model import checkpoint_revision
from models.rewriter.tasks import LIKELIHOOD
from tests.support.grape_server import Server
from tests.support.train_runs import config, train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_vllm_llm: Path) -> Path:
    folder = tmp_path_factory.mktemp("reranker")
    settings = config(
        folder, tiny_vllm_llm, task="rerank", warm_start=True, candidates_from="none", contrast=4,
        warm_start_queries={"multilingual": 16}, warm_start_learning_rate=2e-2,
        warm_start_epochs=4, warm_start_batch=4, test_queries={"multilingual": 6},
    )  # fmt: skip
    done = train(settings)
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    return folder


def test_the_adapter_is_one_of_the_likelihood(trained: Path, tiny_vllm_llm: Path) -> None:
    adapter = open_adapter(trained / "adapter", checkpoint_revision(tiny_vllm_llm))
    assert adapter.tasks == {"likelihood": LIKELIHOOD.short}
    assert adapter.manifest.reward == {"listwise": 1.0, "own_likelihood": 0.1}


@pytest.mark.slow  # a minute: two engines start
def test_it_is_served_beside_the_model_that_rewrites(
    trained: Path, tiny_vllm_llm: Path, tmp_path: Path
) -> None:
    """The tiny model writes nothing that the server could search with, so /readyz stays at 503."""
    flags = ["--llm", str(tiny_vllm_llm), "--adapter", "none", "--llm-kv-cache-gib", "0.25"]
    server = Server(tmp_path / "log", *flags, "--rerank-adapter", str(trained / "adapter"))
    body = {"query": "Hund", "documents": ["dog", "cat", "horse"]}

    def answer() -> dict[str, object]:
        told: dict[str, object] = server.client.post("/rerank", json=body).json().get("rerank", {})
        return told

    try:
        server.wait_for(lambda: answer().get("status") == "reranked", 180)
        adapter = open_adapter(trained / "adapter", checkpoint_revision(tiny_vllm_llm))
        assert answer()["adapter"] == adapter.name
        info = server.client.get("/info").json()
        assert info["adapters"]["likelihood"] == adapter.name
        assert info["adapter"] is None
    finally:
        server.stop()


def test_the_card_says_what_it_is_and_what_it_gained(trained: Path) -> None:
    card = (trained / "adapter" / "README.md").read_text()
    assert card.startswith("# Reranker of ")
    assert "Reranks what a search finds" in card
    assert "| contrast | 4 |" in card
    assert "| prompts_per_step |" not in card
    assert "| multilingual | 6 |" in card
    assert "**Training**, loss" in card
    assert (trained / "stdout").read_text().strip() in card
    manifest = json.loads((trained / "adapter" / "grape.json").read_text())
    assert set(manifest["metrics_after"]) == {"R@1 among candidates", "MRR among candidates"}
