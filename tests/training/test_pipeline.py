"""`grape train` for real, on a tiny model: resumed after kill -9, its output read, typos named."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import grape
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.rewriter.adapter import open_adapter
from models.rewriter.base_model import checkpoint_revision
from models.rewriter.tasks import TASKS
from models.search import normalise
from tests.support.grape_server import GRAPE
from tests.support.train_runs import STEPS, config, train
from training import pipeline
from training.data.rows import Row
from training.data.sources import load_rows
from training.data.splits import choose
from training.evaluation.results import Results
from training.rewards.ranking import Corpus
from training.rewards.scorer import Retriever, Scorer, recall_at
from training.settings import TrainSettings
from training.stages.adapter_folder import Trained, card
from training.stages.language_model import LanguageModel
from training.stages.sft import fine_tune
from training.stages.training_run import TrainingRun


@pytest.fixture(scope="module")
def scorer(encoder: ClipEncoder, demo_index: ImageIndex) -> Scorer:
    return Scorer(Retriever(encoder, demo_index, Corpus.of(demo_index.vectors())))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, tiny_llm: Path) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    done = train(config(folder, tiny_llm))
    assert done.returncode == 0, done.stderr
    (folder / "stderr").write_text(done.stderr)
    return folder


def test_a_run_leaves_an_adapter_that_peft_loads_and_that_fits(
    unbroken: Path, tiny_llm: Path
) -> None:
    folder = unbroken / "adapter"
    opened = open_adapter(folder, checkpoint_revision(tiny_llm))
    assert opened.rank == 4
    assert opened.tasks["multilingual"].examples == ()
    assert opened.manifest.normalisation == normalise.version()
    model = AutoModelForCausalLM.from_pretrained(tiny_llm)
    loaded = PeftModel.from_pretrained(model, str(folder))
    weights = [value for name, value in loaded.named_parameters() if "lora_B" in name]
    assert weights
    assert any(value.abs().sum() > 0 for value in weights)
    stored = load_file(folder / "adapter_model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float16}
    assert str(tiny_llm.parent) not in (folder / "adapter_config.json").read_text()
    card = (folder / "README.md").read_text()
    assert "| learning_rate | 0.01 |" in card
    assert "**Validation**" in card


def test_sft_continues_from_an_adapter(unbroken: Path, tiny_llm: Path, tmp_path: Path) -> None:
    """Two examples: at a learning rate near zero the weights stay, at a real one they move."""
    before = load_file(unbroken / "adapter" / "adapter_model.safetensors")
    task = TASKS["multilingual"].short
    prompt = task.prompt("ギター")
    texts = [(prompt, task.written("guitar")), (prompt, task.written("a guitar"))]
    base = LanguageModel.named(str(tiny_llm))
    moved = {}
    for rate in (1e-12, 1e-2):
        settings = TrainSettings(
            llm=str(tiny_llm), start_from=unbroken / "adapter", tasks=["multilingual"],
            warm_start_learning_rate=rate, micro_batch=2, prompts_per_step=2, group_size=2,
            warm_start_epochs=12, warm_start_batch=2, work=tmp_path / f"{rate}",
        )  # fmt: skip
        folder = settings.work_folder / "warm_start"
        adapter = fine_tune(settings, base, texts, folder)
        after = load_file(adapter / "adapter_model.safetensors")
        assert before.keys() == after.keys()
        moved[rate] = max(float((after[k] - before[k].float()).abs().max()) for k in before)
        text = card(settings, base, Trained(adapter, sft_examples=2))
        assert "loss of the answers' tokens" in text
        opened = open_adapter(unbroken / "adapter", base.revision)
        assert f"**Continued from**: `{opened.name}`." in text
    assert moved[1e-12] < 1e-6 < 1e-3 < moved[1e-2]


def test_grpo_continues_from_an_adapter(unbroken: Path, tiny_llm: Path, tmp_path: Path) -> None:
    """At a learning rate near zero it ends with the weights that it began with."""
    start = unbroken / "adapter"
    path = config(
        tmp_path, tiny_llm, start_from=str(start), steps=1, learning_rate=1e-9, validation_every=1
    )
    assert grape.run(["train", "--config", str(path)]) == 0
    opened = open_adapter(start, checkpoint_revision(tiny_llm))
    written = open_adapter(tmp_path / "adapter", checkpoint_revision(tiny_llm))
    assert written.manifest.started_from == opened.name
    assert written.manifest.reward == {"mixture": 1.0}
    before, after = (
        load_file(adapter.folder / "adapter_model.safetensors") for adapter in (opened, written)
    )
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_grpo_learns_from_the_rewrites_that_are_served(
    unbroken: Path, tiny_llm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The likeliest rewrites are given, so that without KL a constant objective has no gradient."""
    path = config(
        tmp_path,
        tiny_llm,
        start_from=str(unbroken / "adapter"),
        groups="likeliest",
        steps=2,
        beta=0,
        validation_every=2,
    )
    assert grape.run(["train", "--config", str(path)]) == 0
    lines = capsys.readouterr().err.splitlines()
    credits = [line.split("credit ")[1] for line in lines if line.startswith("step ")]
    assert len(credits) == 2
    assert all(abs(float(mean)) < 1e-6 for mean in credits)
    before, after = (
        load_file(folder / "adapter_model.safetensors")
        for folder in (
            unbroken / "adapter",
            tmp_path / "adapter.work" / "grpo" / "checkpoint-2",
        )
    )
    assert any((before[name].float() - after[name].float()).abs().max() > 1e-3 for name in after)


def test_grpo_draws_again_leaves_queries_out_and_holds_the_entropy(
    unbroken: Path, tiny_llm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tiny model finds a picture by chance, so that good means among the first 500."""
    path = config(
        tmp_path,
        tiny_llm,
        start_from=str(unbroken / "adapter"),
        steps=3,
        validation_every=1,
        sampling_rounds=3,
        good_rank=500,
        difficulty_draws=4,
        entropy_floor=0.99,
    )
    assert grape.run(["train", "--config", str(path)]) == 0
    error = capsys.readouterr().err
    work = tmp_path / "adapter.work"
    shares = [json.loads(line)[1] for line in (work / "difficulty.jsonl").read_text().splitlines()]
    assert f"Difficulty: of {len(shares)} queries {shares.count(1.0)} are left out" in error
    assert len(shares) - shares.count(1.0) - shares.count(0.0) >= 3 * 4
    checkpoint = work / "grpo" / "checkpoint-3" / "trainer_state.json"
    log = json.loads(checkpoint.read_text())["log_history"]
    steps = [logs for logs in log if "reward" in logs]
    assert all(4 <= logs["adaptive/drawn"] <= 12 for logs in steps)
    assert any(logs["adaptive/drawn"] > 4 for logs in steps)
    assert all(1 <= logs["distinct"] <= 4 for logs in steps)
    low = steps[1]["entropy"] <= 0.99 * steps[0]["entropy"]
    assert (steps[1]["entropy_coef"] > 0) == low
    assert "slower method" not in error


def test_the_progress_shows_reward_rank_flat_groups_kl_and_inflation(unbroken: Path) -> None:
    lines = (unbroken / "stderr").read_text().splitlines()
    steps = [line for line in lines if line.startswith("step ")]
    assert len(steps) == STEPS
    for word in ("reward", "log likelihood", "rank", "R@10", "flat", "tokens", "kl", "entropy",
                 "to target", "to random", "gap", "credit", "rank_log", "format"):  # fmt: skip
        assert f"{word} " in steps[-1], word
    validations = [line for line in lines if line.startswith("validation at step")]
    assert len(validations) == 4
    assert validations[-1].startswith("validation at step 8, mean of 2 adapters: log likelihood -")
    assert sum(line.startswith("GRPO gained ") for line in lines) == 1
    events = list((unbroken / "adapter.work").rglob("events.out.tfevents.*"))
    assert events


def test_the_best_by_validation_is_kept(unbroken: Path) -> None:
    work = unbroken / "adapter.work"
    curve = [json.loads(line) for line in (work / "validation.jsonl").read_text().splitlines()]
    assert [(seen["step"], seen["averaged"]) for seen in curve] == [(0, 1), (4, 1), (8, 1), (8, 2)]
    assert (work / "best" / "adapter_model.safetensors").is_file()


def test_the_average_is_that_of_the_validated_adapters(unbroken: Path) -> None:
    work = unbroken / "adapter.work"
    kept = [load_file(work / "averaged" / step / "adapter_model.safetensors") for step in "48"]
    lines = (work / "validation.jsonl").read_text().splitlines()
    likelihood = [json.loads(line)["log_likelihood"] for line in lines]
    expected = {name: (kept[0][name] + kept[1][name]) / 2 for name in kept[0]}
    best = load_file(work / "best" / "adapter_model.safetensors")
    chosen = [None, kept[0], kept[1], expected][likelihood.index(max(likelihood))]
    assert chosen is not None
    assert all(torch.allclose(best[name], chosen[name]) for name in best)


def test_a_killed_run_is_resumed_and_ends_where_the_unbroken_one_does(
    unbroken: Path, tiny_llm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(tmp_path, tiny_llm)
    running = subprocess.Popen(
        [GRAPE, "train", "--config", path],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    assert running.stderr
    for line in running.stderr:
        if line.startswith("step 5/"):  # after the checkpoint at 4, before the one at 6
            os.killpg(running.pid, signal.SIGKILL)
            break
    running.wait()
    assert running.returncode == -signal.SIGKILL
    work = tmp_path / "adapter.work"
    assert (work / "grpo" / "checkpoint-4").is_dir()
    # What a kill leaves of a checkpoint being written must not be mistaken for one.
    (work / "grpo" / "checkpoint-7").mkdir()

    assert grape.run(["train", "--config", str(path)]) == 2
    assert "continue it with --resume" in capsys.readouterr().err
    changed = ["--resume", "--learning-rate", "0.5"]
    assert grape.run(["train", "--config", str(path), *changed]) == 2
    assert "another learning_rate" in capsys.readouterr().err
    resumed = train(path, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    steps = [line for line in resumed.stderr.splitlines() if line.startswith("step ")]
    assert steps[0].startswith("step 5/")

    def last(folder: Path) -> dict[str, torch.Tensor]:
        return load_file(folder / "grpo" / f"checkpoint-{STEPS}" / "adapter_model.safetensors")

    one, two = last(unbroken / "adapter.work"), last(work)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    curves = [
        (folder / "validation.jsonl").read_text() for folder in (unbroken / "adapter.work", work)
    ]
    assert curves[0] == curves[1]


def test_the_test_of_an_adapter_is_an_evaluation_of_held_out_pictures(
    unbroken: Path, tiny_llm: Path, scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frozen model repeats every query here, and the adapter answers with the English name."""
    monkeypatch.setattr("training.evaluation.bench.merged_dir", lambda: tmp_path / "merged")
    out, work = tmp_path / "adapter", tmp_path / "work"
    shutil.copytree(unbroken / "adapter", out)
    counts = {"multilingual": 26, "long": 5, "composed": 12}
    settings = TrainSettings(
        llm=str(tiny_llm), data="demo-all", tasks=["multilingual"], out=out, work=work,
        test_queries=counts,
    )  # fmt: skip
    base = LanguageModel.named(str(tiny_llm))
    adapter = open_adapter(out, base.revision)
    run = TrainingRun(settings, base, adapter.tasks, load_rows("demo-all"), scorer)
    rows = choose(run.rows, "test", counts, seed=0)
    (work / "test").mkdir(parents=True)
    for name, prompts in (("frozen", TASKS), (adapter.name, TASKS | adapter.tasks)):
        lines: list[list[object]] = [
            [f"{prompts[row.task].hash[:12]} {row.asked}",
             row.query if name == "frozen" else row.english, [], 0.1]
            for row in rows
        ]  # fmt: skip
        path = work / "test" / f"rewrites-{name}-{base.revision[:12]}-greedy.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    summary = pipeline.test_adapter(run, Trained(out), rows)
    names = [r.language if r.task == "multilingual" else r.task for r in rows]
    groups = {n: [r for r, name in zip(rows, names, strict=True) if name == n] for n in names}

    def recall(texts: list[str], rows: list[Row]) -> float:
        return recall_at(10, scorer.rank(texts, [row.targets for row in rows]))

    before = {n: recall([r.query for r in group], group) for n, group in groups.items()}
    after = {n: recall([r.english or "" for r in group], group) for n, group in groups.items()}
    manifest = open_adapter(out, base.revision).manifest
    for metrics, expected in ((manifest.metrics_before, before), (manifest.metrics_after, after)):
        languages = [value for n, value in expected.items() if n not in (*TASKS, "en")]
        assert len(languages) == 13
        expected["mean of languages"] = sum(languages) / len(languages)
        assert metrics == pytest.approx({f"{n} R@10": v for n, v in expected.items()}, abs=1e-4)
    gain = after["mean of languages"] - before["mean of languages"]
    assert f"Tuned minus frozen, mean of languages: {gain:+.3f} R@10, 95 % interval +" in summary
    assert "| R@10 | queries | direct | frozen | tuned |" in summary
    assert f"**Test split**, held-out pictures\n\n{summary}" in (out / "README.md").read_text()
    results = Results.model_validate_json((work / "test.json").read_bytes())
    assert [system.name for system in results.systems] == ["direct", "frozen", "tuned"]


def test_an_adapter_is_never_overwritten(unbroken: Path) -> None:
    done = train(unbroken / "train.yaml")
    assert done.returncode == 2
    assert "is not empty" in done.stderr
