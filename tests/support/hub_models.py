"""Small language models of real architectures for the stub hub: random weights, real tokenizers.

The kinds of tokenizers are those of the families, trained on a few lines. The chat templates say
what the families' own do, in fewer words.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GenerationConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from models.rewriter.tasks import TASKS

_WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+(?!\S)|\s+"
# With the usual 0.02 a model of two layers gives the same answer to every prompt.
_SPREAD = 0.4
_SHAPE = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 32, "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}  # fmt: skip

_IM_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Thinks unless it is told not to; then the thought is there, and empty.
_QWEN3_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
_LLAMA_CHAT = (
    "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ date_string }}"
    "<|eot_id|>{% for message in messages %}<|start_header_id|>{{ message.role }}"
    "<|end_header_id|>\n\n{{ message.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
# Knows no system line: it belongs to the first turn. Turns must alternate.
_GEMMA_CHAT = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{% set first = messages[0].content + '\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set first = '' %}{% set turns = messages %}"
    "{% endif %}{% for message in turns %}"
    "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "<start_of_turn>{{ 'model' if message.role == 'assistant' else message.role }}\n"
    "{{ first if loop.first else '' }}{{ message.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


class Family(NamedTuple):
    """How the small model of a family is made."""

    name: str  # on the hub
    config: Callable[..., Any]
    tokenizer: Callable[[], Tokenizer]
    tokens: dict[str, str]
    chat: str | None
    end_of_turn: str
    spread: float = _SPREAD


def write_model(folder: Path, family: Family) -> Path:
    """Writes configuration, weights, tokenizer and chat template as the hub has them."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=family.tokenizer(), chat_template=family.chat, **family.tokens
    )
    tokenizer.save_pretrained(folder)
    ids = {f"{mark.removesuffix('_token')}_token_id": tokenizer.convert_tokens_to_ids(text)
           for mark, text in family.tokens.items() if mark != "unk_token"}  # fmt: skip
    torch.manual_seed(0)
    spread = family.spread
    config = family.config(vocab_size=len(tokenizer), initializer_range=spread, **_SHAPE, **ids)
    model = AutoModelForCausalLM.from_config(config)
    end = tokenizer.convert_tokens_to_ids(family.end_of_turn)
    ends = [*{ids["eos_token_id"], end}]
    model.generation_config = GenerationConfig(**{**ids, "eos_token_id": ends})
    model.save_pretrained(folder)
    return folder


def _lines() -> list[str]:
    """What the tokenizers learn their words from."""
    return [task.prompt("ein kleiner Hund, 小さい犬, 🙂") for task in TASKS.values()]


def _bytes(special: list[str], split: bool, bos: str | None = None) -> Tokenizer:
    """Byte-level BPE, as of GPT-2, Qwen, Llama 3 and SmolLM2."""
    bpe = Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not split)
    words = pre_tokenizers.Split(Regex(_WORDS), "isolated")
    digits = pre_tokenizers.Digits(individual_digits=True)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([words if split else digits, level])
    bpe.decoder = decoders.ByteLevel()
    if split and bos is None:
        bpe.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=special, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    bpe.train_from_iterator(_lines(), trainer)
    if bos:
        bpe.post_processor = _begins_with(bpe, bos)
    return bpe


def _pieces() -> Tokenizer:
    """Gemma's: spaces are a letter, unknown letters are bytes, line breaks are tokens."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
    bpe = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    bpe.normalizer = normalizers.Replace(" ", "▁")
    bpe.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    bpe.decoder = decoders.Sequence(steps)
    single = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=special + single, show_progress=False, limit_alphabet=300
    )
    bpe.train_from_iterator((line.replace("\n", " ") for line in _lines()), trainer)
    bpe.add_tokens([AddedToken("\n" * count, normalized=False) for count in (1, 2, 3)])
    bpe.post_processor = _begins_with(bpe, "<bos>")
    return bpe


def _begins_with(tokenizer: Tokenizer, mark: str) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single=f"{mark} $A",
        pair=f"{mark} $A {mark} $B",
        special_tokens=[(mark, tokenizer.token_to_id(mark))],
    )


_IM = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_LLAMA = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
          "<|eot_id|>", "<|finetune_right_pad_id|>"]  # fmt: skip
_IM_TOKENS = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}

FAMILIES = {
    "qwen2.5": Family(
        "Qwen/Qwen2.5-0.5B-Instruct", Qwen2Config,
        lambda: _bytes(_IM, split=True), _IM_TOKENS, _IM_CHAT, "<|im_end|>",
    ),
    "qwen3": Family(
        "Qwen/Qwen3-0.6B", Qwen3Config, lambda: _bytes([*_IM, "<think>", "</think>"], split=True),
        _IM_TOKENS, _QWEN3_CHAT, "<|im_end|>",
    ),
    "llama3.2": Family(
        "meta-llama/Llama-3.2-1B-Instruct", LlamaConfig,
        lambda: _bytes(_LLAMA, split=True, bos="<|begin_of_text|>"),
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>",
         "pad_token": "<|finetune_right_pad_id|>"},
        _LLAMA_CHAT, "<|eot_id|>",
    ),
    "gemma3": Family(
        "google/gemma-3-270m-it", Gemma3TextConfig, _pieces,
        {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"},
        _GEMMA_CHAT, "<end_of_turn>", spread=0.1,  # it multiplies its embeddings
    ),
    "smollm2": Family(
        "HuggingFaceTB/SmolLM2-135M-Instruct", LlamaConfig, lambda: _bytes(_IM, split=False),
        {"bos_token": "<|im_start|>", **_IM_TOKENS}, _IM_CHAT, "<|im_end|>",
    ),
}  # fmt: skip
