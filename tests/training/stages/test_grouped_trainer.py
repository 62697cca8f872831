"""The grouped trainer against TRL's own, from the same fixed rewrites."""

from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from training.stages.grouped_trainer import GroupedTrainer, cannot_group
from training.stages.language_model import quiet
from training.stages.rollouts import MergedPolicy

GROUP = 4
REWRITES = {  # of each prompt; the second group is flat, and equal rewrites repeat
    "cat =": ["a cat\n", "a big cat", "a cat\n", "dog\n"],
    "chien rouge =": ["dog\n", "dog\n", "dog\n", "dog\n"],
    "x =": ["a\n", "ab\n", "abc\n", "abcd\n"],
    "gato =": ["", "cat\n", "cat\n", "a cat with a hat\n"],
}


def reward(completions: list[str], **_: Any) -> list[float]:
    return [(3 * len(text) + text.count("a")) % 7 / 7 for text in completions]


def policy_of(folder: Path, dtype: torch.dtype = torch.float32) -> PeftModel:
    """The tiny model with an adapter that changes it."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    newline = AutoTokenizer.from_pretrained(folder).encode("\n")[-1]
    model.generation_config.eos_token_id = [model.config.eos_token_id, newline]
    torch.manual_seed(1)
    policy = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    for name, weight in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    assert isinstance(policy, PeftModel)
    return policy


def trainer_of(
    kind: type[GRPOTrainer], folder: Path, out: Path, dtype: torch.dtype, options: dict[str, Any]
) -> Any:
    """A trainer whose rewrites are the fixed ones."""
    quiet()
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    policy = policy_of(folder, dtype)
    grouped = {"sampler": MergedPolicy(policy)} if kind is GroupedTrainer else {}
    sizes = {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 1}
    trainer: Any = kind(
        **grouped,
        model=policy,
        processing_class=tokenizer,
        reward_funcs=[reward],
        train_dataset=datasets.Dataset.from_list([{"prompt": prompt} for prompt in REWRITES]),
        args=GRPOConfig(
            output_dir=str(out), use_cpu=True, report_to=[], max_completion_length=20,
            num_generations=GROUP, shuffle_dataset=False, bf16=False, temperature=0.7,
            gradient_checkpointing=False, **{**sizes, **options},
        ),
    )  # fmt: skip

    def fixed(prompt_ids: list[list[int]], *_: Any) -> tuple[list[list[int]], None]:
        texts = [text or "\n" for group in REWRITES.values() for text in group]
        assert len(prompt_ids) == len(texts)
        return tokenizer(texts)["input_ids"], None

    trainer._generate_single_turn = fixed
    # Advantages against a policy that has moved: the KL term to the reference is not 0.
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if "lora_A.default" in name:
                weight.mul_(1.3)
    return trainer


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
