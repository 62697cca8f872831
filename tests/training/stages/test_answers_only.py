"""The CPU's shorter loss is TRL's own: the same value, and the same gradients."""

import copy
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig
from trl import SFTConfig, SFTTrainer

from training.stages.answers_only import AnswersOnlyTrainer


@pytest.fixture(scope="module")
def rows() -> Dataset:
    """Prompts and answers of different lengths, so that both are padded."""
    lengths = [(9, 3), (4, 6), (12, 1), (7, 2)]
    return Dataset.from_list(
        [
            {"input_ids": list(range(5, 5 + prompt + answer)),
             "completion_mask": [0] * prompt + [1] * answer}
            for prompt, answer in lengths
        ]
    )  # fmt: skip


LLAMA = LlamaConfig(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=1,
)  # fmt: skip


@pytest.mark.parametrize("llama", [False, True])
@pytest.mark.parametrize("tokens", [None, torch.tensor(40)])
def test_loss_and_gradients_are_those_of_trl(
    tiny_llm: Path, rows: Dataset, tmp_path: Path, tokens: torch.Tensor | None, llama: bool
) -> None:
    model = (
        AutoModelForCausalLM.from_config(LLAMA, attn_implementation="sdpa")
        if llama
        else AutoModelForCausalLM.from_pretrained(tiny_llm, attn_implementation="sdpa")
    )
    losses, gradients = [], []
    for kind in (SFTTrainer, AnswersOnlyTrainer):
        trainer = kind(
            model=copy.deepcopy(model),
            processing_class=AutoTokenizer.from_pretrained(tiny_llm),
            train_dataset=rows,
            args=SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to=[],
                           gradient_checkpointing=False, per_device_train_batch_size=4),
        )  # fmt: skip
        batch = next(iter(trainer.get_train_dataloader()))
        loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=tokens)
        loss.backward()
        losses.append(loss.item())
        gradients.append(
            torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])
        )
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)
