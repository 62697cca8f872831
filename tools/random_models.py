"""Models of real shapes with random weights, for measuring speed and memory without a model hub."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch

_SPREAD = 0.05  # of the weights; with less, every prompt has the same answer


class Shape(NamedTuple):
    """A decoder like Qwen2.5."""

    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    words: int
    tied: bool = True


LLMS = {
    "0.5B": Shape(896, 4864, 24, 14, 2, 151_936),
    "1.5B": Shape(1536, 8960, 28, 12, 2, 151_936),
    "3B": Shape(2048, 11_008, 36, 16, 2, 151_936),
    "7B": Shape(3584, 18_944, 28, 28, 4, 152_064, tied=False),
}
TINY_LLM = Shape(64, 96, 2, 2, 1, 8192, tied=False)  # tied, it repeats the last word


def write_llm(folder: Path, shape: Shape) -> Path:
    """Writes a checkpoint in bfloat16 with a tokenizer of as many words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    known = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    known += [f"w{number}" for number in range(shape.words - len(known))]
    bpe = Tokenizer(models.BPE(vocab={word: place for place, word in enumerate(known)}, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    ).save_pretrained(folder)
    config = Qwen2Config(
        vocab_size=shape.words, hidden_size=shape.hidden, intermediate_size=shape.inner,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads, max_position_embeddings=4096,
        tie_word_embeddings=shape.tied, initializer_range=_SPREAD, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    return folder


def write_adapter(folder: Path, base: Path, rank: int) -> Path:
    """Writes a LoRA adapter that changes answers, as PEFT and vLLM read it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(rank)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear",
                        task_type="CAUSAL_LM")  # fmt: skip
    adapted = get_peft_model(model, config)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    adapted.save_pretrained(str(folder))
    return folder


def write_encoder(folder: Path, name: str, layers: int | None = None) -> Path:
    """Writes one of open_clip's own architectures, or the same with fewer layers."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    config: dict[str, Any] = open_clip.get_model_config(name)
    if layers:
        config["vision_cfg"]["layers"] = config["text_cfg"]["layers"] = layers
    told = {"model_cfg": config, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(told))
    torch.manual_seed(0)
    weights = open_clip.CLIP(**config).state_dict()
    save_file(
        {key: value.contiguous() for key, value in weights.items()},
        folder / "open_clip_model.safetensors",
    )
    return folder
