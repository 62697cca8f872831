"""`grape train` on a tiny model: two processes, one task alone, and what is refused."""

import itertools
from pathlib import Path

import pytest
import yaml

import grape
from models.rewriter.adapter import open_adapter
from models.rewriter.base_model import checkpoint_revision
from tests.support.train_runs import config
from tests.support.two_processes import run_twice
from training.settings import TrainSettings
from training.stages.validation import Validator

RECIPES = Path(__file__).parent.parent.parent / "training"


@pytest.mark.slow  # stages/test_grouped_trainer.py has two processes too
def test_two_processes_share_a_step(tiny_llm: Path, tmp_path: Path) -> None:
    """The same steps, one adapter, one that writes."""
    # At this rate a step of a random model makes it better.
    path = config(
        tmp_path, tiny_llm, micro_batch=4, steps=4, validation_every=1, learning_rate=3e-3
    )
    done = run_twice("grape", "train", "--config", path)
    assert done.returncode == 0, done.stderr[-3000:]
    steps = [line for line in done.stderr.splitlines() if line.startswith("step ")]
    assert [line.split("/")[0] for line in steps] == ["step 1", "step 2", "step 3", "step 4"]
    assert open_adapter(tmp_path / "adapter", checkpoint_revision(tiny_llm)).rank == 4
    states = (tmp_path / "adapter.work" / "grpo" / "checkpoint-4").glob("rng_state_*.pth")
    assert len(list(states)) == 2


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"lerning_rate": 1}, "There is no setting 'lerning_rate'; did you mean 'learning_rate'?"),
        ({"rewards": {"rank_lg": 1}}, "there is no reward 'rank_lg'; did you mean rank_log"),
        ({"micro_batch": 5}, "micro_batch 5 must divide"),
        ({"rollouts": "vllm-server"}, "needs vllm_server"),
        ({"groups": "likeliest", "objective": "rank"}, "needs objective 'mixture'"),
        ({"groups": "likeliest", "temperature": 0.8}, "needs temperature 1"),
        ({"cut_rank": 100}, "cut_rank is for rewards"),
        ({"sampling_rounds": 3, "objective": "relative"}, "needs objective 'mixture' or 'rank'"),
        ({"sampling_rounds": 3, "groups": "likeliest"}, "needs groups 'drawn'"),
        ({"sampling_rounds": 3, "scale_advantages": "group"}, "needs scale_advantages 'none'"),
        ({"sampling_rounds": 3, "learn_from": 2}, "chooses the rewrites itself"),
        ({"entropy_floor": 1.5}, "--entropy-floor: Input should be less than 1"),
        ({"difficulty_draws": 2, "good_rank": 100_000}, "fewer than one query in 50"),
        ({"llm": "/no/such/model"}, "'/no/such/model' is neither a folder nor a name on the"),
        ({"data": "/no/such.jsonl"}, "There is no data file /no/such.jsonl"),
        ({"index": "/no/such"}, "There is no index in /no/such"),
        ({"steps": 0}, "there is nothing to train"),
        ({"objective": "pass@k"}, "'mixture', 'rank', 'relative' or 'pass_at_k'"),
        ({"objective": "pass_at_k", "pass_k": 5}, "pass_k 5 must not exceed group_size 4"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(
    changes: dict[str, object],
    sentence: str,
    tiny_llm: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = config(tmp_path, tiny_llm, **changes)
    assert grape.run(["train", "--config", str(path)]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_can_be_read(recipe: Path) -> None:
    settings = TrainSettings(**yaml.safe_load(recipe.read_text()))
    assert f"grape train --config training/{recipe.name}" in recipe.read_text()
    assert settings.warm_start or settings.steps > 0


def test_no_english_name_teaches_the_recipe_without_labels() -> None:
    settings = TrainSettings(**yaml.safe_load((RECIPES / "demo-ranks-only.yaml").read_text()))
    assert settings.warm_start
    assert settings.warm_start_english == []
    assert settings.start_from is None


def test_an_adapter_for_composed_queries_alone(
    tmp_path: Path, tiny_llm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    better = itertools.count()  # two steps of a random model may well make it worse
    measure = Validator.__call__
    monkeypatch.setattr(
        Validator,
        "__call__",
        lambda self, model: measure(self, model)._replace(log_likelihood=next(better)),
    )
    out = tmp_path / "adapter"
    code = grape.run(
        ["train", "--config", "training/demo.yaml", "--llm", str(tiny_llm), "--out", str(out),
         "--data", "demo-composed", "--grpo-data", "{}", "--tasks", '["composed"]',
         "--no-warm-start", "--steps", "2", "--prompts-per-step", "4", "--group-size", "4",
         "--micro-batch", "8", "--learning-rate", "0.01", "--test-queries", "{}",
         "--validation-queries", '{"composed": 8}']
    )  # fmt: skip
    assert code == 0
    opened = open_adapter(out, checkpoint_revision(tiny_llm))
    assert set(opened.tasks) == {"composed"}
    assert all(" / " in canary.query for canary in opened.manifest.canaries)
