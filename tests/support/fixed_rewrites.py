"""GRPO trainers on a tiny model, whose rewrites are fixed: what they learn can be compared.

    torchrun --nproc-per-node=2 -m tests.support.fixed_rewrites MODEL OUT SHARE

trains three steps, each process with SHARE rewrites, and saves the adapter in OUT.
"""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from training.stages.grouped_trainer import GroupedTrainer
from training.stages.language_model import quiet
from training.stages.merged_policy import MergedPolicy

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
        seen: Counter[str] = Counter()
        texts = []
        for prompt in tokenizer.batch_decode(prompt_ids):
            texts.append(REWRITES[prompt][seen[prompt]] or "\n")
            seen[prompt] += 1
        return tokenizer(texts)["input_ids"], None

    trainer._generate_single_turn = fixed
    # Advantages against a policy that has moved: the KL term to the reference is not 0.
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if "lora_A.default" in name:
                weight.mul_(1.3)
    return trainer


def train(folder: Path, out: Path, share: int) -> None:
    """Three steps of plain SGD, with KL; Adam would enlarge differences of rounding."""
    options = {
        "per_device_train_batch_size": share, "beta": 0.1, "optim": "sgd", "learning_rate": 1.0,
        "max_steps": 3, "save_strategy": "no", "disable_tqdm": True,
    }  # fmt: skip
    trainer = trainer_of(GroupedTrainer, folder, out, torch.float32, options)
    trainer.train()
    assert trainer.accelerator.num_processes * share == len(REWRITES) * GROUP
    if trainer.accelerator.is_main_process:
        trainer.model.save_pretrained(str(out), selected_adapters=["default"])


if __name__ == "__main__":
    train(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
