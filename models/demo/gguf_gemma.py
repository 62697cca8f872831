"""Converts Gemma 3 from GGUF to a checkpoint that transformers, PEFT and vLLM load.

transformers can convert the weights too, but it parses the file three times (two minutes on two
cores). It also reads the tokenizer as unigram, which gives tokens that Gemma was not trained on.
Here the file is parsed once, and the tokenizer is like Gemma's own: BPE with byte fallback and a
leading <bos>.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, ReaderTensor, TokenType, dequantize
from safetensors.torch import save_file
from tokenizers import AddedToken
from transformers import Gemma3TextConfig, GemmaTokenizer
from transformers.convert_slow_tokenizer import generate_merges

_GLOBAL_ATTENTION_EVERY = 6  # layers; the others attend to the sliding window only

# GGUF name in a block -> transformers name in a layer
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def convert_gemma(gguf: Path, out: Path) -> None:
    """Writes config, tokenizer and bfloat16 weights of a Gemma 3 text model to ``out``."""
    reader = GGUFReader(str(gguf))
    out.mkdir(parents=True, exist_ok=True)
    _config(reader).save_pretrained(out)
    _tokenizer(reader).save_pretrained(out)
    weights = {_hf_name(tensor.name): _weights(tensor) for tensor in reader.tensors}
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})


def _field(reader: GGUFReader, name: str) -> Any:
    field = reader.get_field(name)
    assert field is not None, f"the GGUF file has no {name}"
    return field.contents()


def _config(reader: GGUFReader) -> Gemma3TextConfig:
    def value(name: str) -> Any:
        return _field(reader, f"gemma3.{name}")

    layers = value("block_count")
    return Gemma3TextConfig(
        architectures=["Gemma3ForCausalLM"],
        vocab_size=len(reader.fields["tokenizer.ggml.tokens"].data),
        hidden_size=value("embedding_length"),
        intermediate_size=value("feed_forward_length"),
        num_hidden_layers=layers,
        num_attention_heads=value("attention.head_count"),
        num_key_value_heads=value("attention.head_count_kv"),
        head_dim=value("attention.key_length"),
        query_pre_attn_scalar=value("attention.key_length"),
        sliding_window=value("attention.sliding_window"),
        layer_types=[
            "sliding_attention" if (layer + 1) % _GLOBAL_ATTENTION_EVERY else "full_attention"
            for layer in range(layers)
        ],
        max_position_embeddings=value("context_length"),
        rms_norm_eps=value("attention.layer_norm_rms_epsilon"),
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": value("rope.freq_base")},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        },
        tie_word_embeddings=True,
        dtype="bfloat16",
    )


def _tokenizer(reader: GGUFReader) -> GemmaTokenizer:
    tokens: list[str] = _field(reader, "tokenizer.ggml.tokens")
    scores: list[float] = _field(reader, "tokenizer.ggml.scores")
    types: list[int] = _field(reader, "tokenizer.ggml.token_type")
    vocab = {token: number for number, token in enumerate(tokens)}
    written = {
        token: score
        for token, score, kind in zip(tokens, scores, types, strict=True)
        if kind == TokenType.NORMAL
    }
    # A score is the negated rank of a merge, which gives the order of the merges. Added tokens are
    # matched as a whole before any merge.
    added = [
        AddedToken(token, normalized=False, special=kind == TokenType.CONTROL)
        for token, kind in zip(tokens, types, strict=True)
        if kind in (TokenType.CONTROL, TokenType.USER_DEFINED)
    ]
    tokenizer = GemmaTokenizer(
        vocab=vocab, merges=generate_merges(vocab, written), add_bos_token=True
    )
    tokenizer.add_tokens(added)
    tokenizer.update_post_processor()
    return tokenizer


def _hf_name(name: str) -> str:
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{_LAYER_NAMES[part]}.{kind}"


def _weights(tensor: ReaderTensor) -> torch.Tensor:
    values = dequantize(tensor.data, tensor.tensor_type)
    if tensor.name.endswith("_norm.weight"):
        values = values - 1  # GGUF stores 1 + weight, the factor that the norm applies
    return torch.from_numpy(np.ascontiguousarray(values)).to(torch.bfloat16)
