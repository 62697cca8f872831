"""Small checkpoints of real vision architectures with random weights, written by the tests.

Their answers make no sense. But the tower, merger, positions, tokenizer, processor and chat
template are those of the architecture, so a prompt takes the same path as with real weights.
"""

from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from models.rewriter.tasks import MULTILINGUAL
from models.rewriter.vision import SEEN

Architecture = Literal["qwen2_5_vl", "qwen3_vl"]

SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# With the usual 0.02 a model of two layers gives the same answer to every prompt.
SPREAD = 0.4
LARGEST = 28 * 28 * 1280  # pixels, as the real checkpoints recommend
SIZE = {"shortest_edge": 56 * 56, "longest_edge": LARGEST}
TOWER = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_heads": 2,
    "out_hidden_size": 128,
    "initializer_range": SPREAD,
}


def write_checkpoint(folder: Path, architecture: Architecture) -> Path:
    """Writes model, tokenizer, processor and chat template, as in a checkpoint from a hub."""
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    write = _write_qwen2_5_vl if architecture == "qwen2_5_vl" else _write_qwen3_vl
    write(folder, tokenizer)
    return folder


def _write_qwen2_5_vl(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]}
    config = Qwen2_5_VLConfig(
        text_config={**_text(tokenizer), "rope_parameters": rope},
        vision_config={**TOWER, "depth": 2, "fullatt_block_indexes": [1]},
        **_marks(tokenizer),
    )
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(size=SIZE), tokenizer, Qwen2VLVideoProcessor(),
        chat_template=TEMPLATE,
    ).save_pretrained(folder)  # fmt: skip


def _write_qwen3_vl(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    rope = {
        "rope_type": "default",
        "rope_theta": 5e6,
        "mrope_section": [6, 5, 5],
        "mrope_interleaved": True,
    }
    config = Qwen3VLConfig(
        text_config={**_text(tokenizer), "head_dim": 32, "rope_parameters": rope},
        vision_config={
            **TOWER,
            "depth": 3,
            "deepstack_visual_indexes": [0, 1],
            "num_position_embeddings": 64,
        },
        **_marks(tokenizer),
    )
    Qwen3VLForConditionalGeneration(config).save_pretrained(folder)
    Qwen3VLProcessor(
        Qwen2VLImageProcessor(size=SIZE, patch_size=16), tokenizer, Qwen3VLVideoProcessor(),
        chat_template=TEMPLATE,
    ).save_pretrained(folder)  # fmt: skip


def _ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    ids = tokenizer.convert_tokens_to_ids(SPECIAL)
    assert isinstance(ids, list)
    return dict(zip(SPECIAL, ids, strict=True))


def _marks(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    ids = _ids(tokenizer)
    return {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "tie_word_embeddings": False,
    }


def _text(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    ids = _ids(tokenizer)
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "initializer_range": SPREAD,
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
    }


def _tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE like the Qwen family's, trained on the prompts so that tokens are words."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([SEEN.prompt("blue"), MULTILINGUAL.prompt("Hund")], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=SPECIAL[1:],
    )
