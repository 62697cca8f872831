"""Small checkpoints of real vision architectures, made in place: random weights, every part there.

They say nothing sensible. But tower, merger, positions, tokenizer, processor and chat template are
those of the architecture, so what is put to them goes the way that it goes with real weights.
"""

from pathlib import Path
from typing import Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

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
# At the usual 0.02 a model of two layers says the same whatever it is asked.
SPREAD = 0.4
LARGEST = 28 * 28 * 1280  # pixels, as in the real checkpoints' advice


def write_checkpoint(folder: Path, architecture: Architecture) -> Path:
    """Model, tokenizer, processor and chat template, as a checkpoint from a hub has them."""
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    ids = dict(zip(SPECIAL, tokenizer.convert_tokens_to_ids(SPECIAL), strict=True))
    marks = {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "tie_word_embeddings": False,
    }
    text = {
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
    tower = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 2,
        "out_hidden_size": 128,
        "initializer_range": SPREAD,
    }
    size = {"shortest_edge": 56 * 56, "longest_edge": LARGEST}
    if architecture == "qwen2_5_vl":
        rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]}
        model = Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLConfig(
                text_config={**text, "rope_parameters": rope},
                vision_config={**tower, "depth": 2, "fullatt_block_indexes": [1]},
                **marks,
            )
        )
        processor = Qwen2_5_VLProcessor(
            Qwen2VLImageProcessor(size=size), tokenizer, Qwen2VLVideoProcessor(),
            chat_template=TEMPLATE,
        )  # fmt: skip
    else:
        rope = {
            "rope_type": "default",
            "rope_theta": 5e6,
            "mrope_section": [6, 5, 5],
            "mrope_interleaved": True,
        }
        model = Qwen3VLForConditionalGeneration(
            Qwen3VLConfig(
                text_config={**text, "head_dim": 32, "rope_parameters": rope},
                vision_config={
                    **tower,
                    "depth": 3,
                    "deepstack_visual_indexes": [0, 1],
                    "num_position_embeddings": 64,
                },
                **marks,
            )
        )
        processor = Qwen3VLProcessor(
            Qwen2VLImageProcessor(size=size, patch_size=16), tokenizer, Qwen3VLVideoProcessor(),
            chat_template=TEMPLATE,
        )  # fmt: skip
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE as the Qwen family has it, learnt from the prompts: its tokens hold words."""
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
