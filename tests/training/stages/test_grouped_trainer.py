"""The grouped trainer against TRL's own, from the same fixed rewrites."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from trl import GRPOTrainer

from tests.support.fixed_rewrites import GROUP, REWRITES, policy_of, train, trainer_of
from tests.support.two_processes import run_twice
from training.stages.grouped_trainer import GroupedTrainer, cannot_group


def gradient(trainer: Any, updates: int = 1) -> torch.Tensor:
    """Of one optimiser step; before it the adapter moves on by ``updates - 1`` steps."""
    model, passes = trainer.model.train(), trainer.args.gradient_accumulation_steps
    trainer.current_gradient_accumulation_steps = passes
    batch = [{"prompt": prompt} for prompt in REWRITES for _ in range(GROUP)]
    trained = {name: w for name, w in model.named_parameters() if w.requires_grad}
    for update in range(updates):
        model.zero_grad()
        for _ in range(passes):
            trainer.compute_loss(model, trainer._prepare_inputs(batch)).backward()
            trainer._step += 1
        if update + 1 < updates:
            with torch.no_grad():
                for weight in trained.values():
                    weight.mul_(0.9)
    found = [weight.grad for weight in trained.values()]
    return torch.cat([part.flatten() for part in found if part is not None]).float()


def compared(
    folder: Path, out: Path, options: dict[str, Any], updates: int = 1
) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """TRL's gradient, ours, and our trainer."""
    stock = trainer_of(GRPOTrainer, folder, out, torch.float32, options)
    ours = trainer_of(GroupedTrainer, folder, out, torch.float32, options)
    return gradient(stock, updates), gradient(ours, updates), ours


LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo")


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_is_the_stock_trainers(
    loss: str, beta: float, tiny_llm: Path, tmp_path: Path
) -> None:
    expected, given, ours = compared(tiny_llm, tmp_path, {"loss_type": loss, "beta": beta})
    assert expected.norm() > 1e-3
    torch.testing.assert_close(given, expected, rtol=1e-3, atol=1e-5 * float(expected.norm()))
    assert ("kl" in ours._metrics["train"]) == (beta > 0)
    if beta:
        assert ours._metrics["train"]["kl"][0] > 1e-3


@pytest.mark.parametrize(
    ("options", "updates"),
    [
        ({"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}, 1),
        ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 8, "beta": 0.1}, 1),
        ({"num_iterations": 2}, 2),
        ({"num_iterations": 2, "importance_sampling_level": "sequence", "beta": 0.1}, 2),
        ({"top_entropy_quantile": 0.5}, 1),
        ({"mask_truncated_completions": True}, 1),
        ({"scale_rewards": "batch"}, 1),
        ({"scale_rewards": "none"}, 1),
        ({"entropy_coef": 0.1}, 1),
    ],
)
def test_so_it_is_with_other_options(
    options: dict[str, Any], updates: int, tiny_llm: Path, tmp_path: Path
) -> None:
    expected, given, _ = compared(tiny_llm, tmp_path, options, updates)
    assert expected.norm() > 1e-4
    torch.testing.assert_close(given, expected, rtol=1e-3, atol=1e-5 * float(expected.norm()))


def test_an_entropy_bonus_is_learnt_from_packed_rows(
    tiny_llm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"entropy_coef": 1.0, "beta": 0.1}
    expected, given, _ = compared(tiny_llm, tmp_path, options)
    torch.testing.assert_close(given, expected, rtol=1e-3, atol=1e-5 * float(expected.norm()))
    assert "slower method" not in capsys.readouterr().err
    without = gradient(trainer_of(GroupedTrainer, tiny_llm, tmp_path, torch.float32, {"beta": 0.1}))
    assert (given - without).norm() > 1e-2 * given.norm()


def test_bfloat16_weights_change_the_gradient_little(tiny_llm: Path, tmp_path: Path) -> None:
    exact, rounded = (
        gradient(trainer_of(GroupedTrainer, tiny_llm, tmp_path, dtype, {"beta": 0.1}))
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert torch.nn.functional.cosine_similarity(exact, rounded, dim=0) > 0.99


def test_flat_groups_are_left_out_but_for_the_kl_term(tiny_llm: Path, tmp_path: Path) -> None:
    rows = {}
    for beta in (0.0, 0.1):
        ours = trainer_of(GroupedTrainer, tiny_llm, tmp_path, torch.float32, {"beta": beta})
        packed: list[int] = []
        score = ours._packed_scores

        def counted(model: Any, texts: Any, score: Any = score, seen: Any = packed) -> Any:
            seen.append(len({prompt for prompt, _ in texts}))
            return score(model, texts)

        ours._packed_scores = counted
        gradient(ours)
        rows[beta] = packed[-1]
    assert rows == {0.0: len(REWRITES) - 1, 0.1: len(REWRITES)}


def test_texts_longer_than_the_sliding_window_go_through_trls_method(
    tiny_llm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = trainer_of(GroupedTrainer, tiny_llm, tmp_path, torch.float32, {})
    ours._window = 8
    expected = gradient(trainer_of(GRPOTrainer, tiny_llm, tmp_path, torch.float32, {}))
    torch.testing.assert_close(gradient(ours), expected, rtol=1e-3, atol=1e-6)
    assert capsys.readouterr().err.count("TRL's own, slower method") == 1


def test_what_cannot_be_grouped_is_told(tiny_llm: Path) -> None:
    policy: Any = policy_of(tiny_llm)
    assert cannot_group(policy) is None
    policy.config.final_logit_softcapping = 30.0
    assert cannot_group(policy) == "its logits are scaled or capped"
    policy.config.final_logit_softcapping = None
    policy.get_base_model().get_output_embeddings().weight.requires_grad_(True)
    assert cannot_group(policy) == "its output layer is trained, or has a bias"


def test_two_processes_learn_what_one_does(tiny_llm: Path, tmp_path: Path) -> None:
    train(tiny_llm, tmp_path / "one", 16)
    done = run_twice("tests.support.fixed_rewrites", tiny_llm, tmp_path / "two", 8)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two"))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-3, atol=1e-5)
    start = dict(policy_of(tiny_llm).named_parameters())
    for name in (name for name in one if "lora_B" in name):
        moved = one[name] - start[name.replace(".weight", ".default.weight")]
        assert moved.norm() > 1e-3
