"""A causal language model small enough to compare numbers with, with random weights."""

from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

WORDS = 97
PAD, EOS, NEWLINE = 0, 1, 5


def tiny_gemma(seed: int = 0) -> Any:
    """Gemma 3's architecture with two layers, one of them with a sliding window; float32."""
    torch.manual_seed(seed)
    config = Gemma3TextConfig(
        vocab_size=WORDS,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        sliding_window=64,
        layer_types=["sliding_attention", "full_attention"],
        pad_token_id=PAD,
        eos_token_id=EOS,
        initializer_range=0.2,
    )
    return Gemma3ForCausalLM(config).eval()


def tiny_policy(seed: int = 0) -> Any:
    """:func:`tiny_gemma` with an adapter that changes its answers."""
    policy = get_peft_model(
        tiny_gemma(seed), LoraConfig(r=4, lora_alpha=8, target_modules="all-linear")
    )
    for name, weight in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return policy
