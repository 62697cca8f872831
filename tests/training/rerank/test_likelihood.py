"""The likelihood taught to tell captions apart: its loss, its scores, and a short training."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch.nn.functional import log_softmax

from models.rewriter.tasks import LIKELIHOOD, Task
from tests.support.tiny_gemma import NEWLINE, PAD, tiny_policy
from training.data.rows import Row
from training.rerank.candidates import Listed
from training.rerank.likelihood import Lesson, loss_of, scores_of, train_likelihood
from training.settings import TrainSettings
from training.stages.language_model import LanguageModel
from training.stages.sft import LOSSES

TASKS: dict[str, Task] = {"likelihood": LIKELIHOOD.short}


def test_the_loss_is_that_of_the_right_caption() -> None:
    scores = torch.tensor([-2.0, -2.0, -2.0, -2.0])
    lesson = Lesson([], (20, 21, 22, NEWLINE))
    assert float(loss_of(scores, lesson, 0.0)) == pytest.approx(math.log(4))
    assert float(loss_of(scores, lesson, 0.5)) == pytest.approx(math.log(4) + 0.25)
    assert float(loss_of(torch.tensor([-1.0, -200.0]), lesson, 0.0)) == pytest.approx(0, abs=1e-6)


def test_the_loss_is_least_where_scores_follow_the_grades() -> None:
    lesson = Lesson([], (NEWLINE,), grades=(3, 1))
    scores = torch.tensor([0.0, 0.0, -9.0], requires_grad=True)
    optimizer = torch.optim.Adam([scores], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        loss_of(scores, lesson, 0.0).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert scores.softmax(0)[:2].tolist() == pytest.approx([0.75, 0.25], abs=0.02)


def test_scores_are_the_models_own() -> None:
    """Packed and padded, as each text alone."""
    policy = tiny_policy()
    batch = [
        Lesson([(2, 7, 8), (2, 9), (2, 7, 8, 11)], (20, 21, NEWLINE)),
        Lesson([(2, 30, 31, 32), (2, 7, 8)], (40, NEWLINE)),
    ]
    found = scores_of(policy, batch, PAD)
    for lesson, scores in zip(batch, found, strict=True):
        for prompt, score in zip(lesson.prompts, scores, strict=True):
            ids = torch.tensor([[*prompt, *lesson.query]])
            logs = log_softmax(policy(input_ids=ids).logits[0].float(), dim=1)
            places = range(len(prompt) - 1, ids.shape[1] - 1)
            alone = sum(
                logs[place, token] for place, token in zip(places, lesson.query, strict=True)
            )
            assert float(score) == pytest.approx(float(alone), abs=1e-4)
    torch.stack([scores[0] for scores in found]).sum().backward()  # type: ignore[no-untyped-call]
    assert any(w.grad is not None and w.grad.abs().sum() > 0 for w in policy.parameters())


def test_training_learns_which_caption_is_meant(tiny_llm: Path, tmp_path: Path) -> None:
    """Two queries with the same two captions, and back: nothing but the pair tells them apart."""
    listed = [
        Listed(Row(query="ギター", targets=("1F3B8",)), ("guitar", "violin")),
        Listed(Row(query="バイオリン", targets=("1F3BB",)), ("violin", "guitar")),
    ]
    base = LanguageModel.named(str(tiny_llm))
    settings = TrainSettings(
        llm=str(tiny_llm), task="rerank", tasks=["multilingual"], warm_start_batch=2,
        warm_start_epochs=120, warm_start_learning_rate=5e-3, lora_rank=4, work=tmp_path,
    )  # fmt: skip
    folder = tmp_path / "likelihood"
    adapter = train_likelihood(settings, base, TASKS, listed, folder)
    losses = json.loads((folder / LOSSES).read_text())
    assert losses[-1][1] < 0.5 * losses[0][1]
    # A finished stage is not trained again.
    before = (adapter / "adapter_model.safetensors").stat().st_mtime_ns
    assert train_likelihood(settings, base, TASKS, listed, folder) == adapter
    assert (adapter / "adapter_model.safetensors").stat().st_mtime_ns == before
