"""A language model small enough to train in a test: real architecture, random weights."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast


@pytest.fixture(scope="session")
def tiny_llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of Gemma 3 over bytes."""
    return _gemma_over_bytes(tmp_path_factory.mktemp("tiny-llm"), head_dim=16)


@pytest.fixture(scope="session")
def tiny_vllm_llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with heads as wide as vLLM wants them on a CPU."""
    return _gemma_over_bytes(tmp_path_factory.mktemp("tiny-vllm-llm"), head_dim=32)


def _gemma_over_bytes(folder: Path, head_dim: int) -> Path:
    special = ["<pad>", "<eos>", "<bos>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=head_dim,
        max_position_embeddings=2048, layer_types=["full_attention"] * 2,
        pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder
