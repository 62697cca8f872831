"""`grape train` of a reranker that rates in groups, for real: SFT, GRPO, adapter, test."""

import json
import shutil
from pathlib import Path

import pytest

from models.rewriter.adapter import open_adapter
from models.rewriter.base_model import checkpoint_revision
from models.rewriter.tasks import RERANK
from tests.support.train_runs import config, train

STEPS = 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_vllm_llm: Path) -> Path:
    folder = tmp_path_factory.mktemp("group-reranker")
    settings = config(
        folder, tiny_vllm_llm, task="rerank", rerank_by="group", candidates=10,
        candidates_from="none", rerank_data={"demo-keywords": 2}, warm_start=True,
        warm_start_queries={"multilingual": 8}, warm_start_learning_rate=1e-2,
        warm_start_epochs=1, warm_start_batch=4, steps=STEPS, prompts_per_step=2, group_size=4,
        validation_every=1, validation_queries={"multilingual": 4},
        test_queries={"multilingual": 4},
    )  # fmt: skip
    done = train(settings)
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    return folder


def test_the_adapter_rates_in_groups(trained: Path, tiny_vllm_llm: Path) -> None:
    adapter = open_adapter(trained / "adapter", checkpoint_revision(tiny_vllm_llm))
    assert adapter.tasks == {"rerank": RERANK.short}
    assert set(adapter.manifest.reward) == {"ndcg", "recall_at_k", "distribution", "format"}


def test_the_card_speaks_of_ratings(trained: Path) -> None:
    card = (trained / "adapter" / "README.md").read_text()
    assert "| multilingual | 4 |" in card
    assert "**Warm start**, loss of the answers' tokens" in card
    assert "log-likelihood of the right candidate in the softmax of the ratings" in card
    assert "greedy rewrite" not in card


def test_every_step_is_logged_with_its_rewards(trained: Path) -> None:
    last = max((trained / "adapter.work" / "grpo").glob("checkpoint-*"))
    log = json.loads((last / "trainer_state.json").read_text())["log_history"]
    steps = [entry for entry in log if "rewards/ndcg/mean" in entry]
    assert len(steps) == STEPS
    assert all(0 <= entry["rewards/ndcg/mean"] <= 1 for entry in steps)


@pytest.mark.slow  # tests/training/test_pipeline.py resumes a rewriter's run, through the same code
def test_a_finished_run_goes_on_where_it_was(trained: Path) -> None:
    shutil.move(trained / "adapter", trained / "before")
    done = train(trained / "train.yaml", "--resume")
    assert done.returncode == 0, done.stderr
    name = "adapter_model.safetensors"
    assert (trained / "adapter" / name).read_bytes() == (trained / "before" / name).read_bytes()
