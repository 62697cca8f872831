"""Small open_clip models of real families for the stub hub: random weights, real tokenizers."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig

_TEXTS = ["a photo of a small red dog", "ein kleiner roter Hund im Schnee", "雪の中の犬", "CAFÉ 3!"]
_VIT = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}
_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
_CLIP = {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28], "interpolation": "bicubic",
         "resize_mode": "shortest"}  # fmt: skip
_SIGLIP = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
_MOBILE = {"mean": [0.0] * 3, "std": [1.0] * 3, "interpolation": "bilinear",
           "resize_mode": "shortest"}  # fmt: skip


class Encoder(NamedTuple):
    """How the small encoder of a family is made."""

    name: str  # on the hub
    config: dict[str, Any]  # open_clip's model_cfg
    preprocess: dict[str, Any]


ENCODERS = {
    "vit-b-32": Encoder(
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        {"embed_dim": 48, "vision_cfg": _VIT, "text_cfg": _TEXT},
        _CLIP,
    ),
    "vit-l-14-quickgelu": Encoder(
        "timm/vit_large_patch14_clip_224.openai",
        {
            "embed_dim": 48,
            "quick_gelu": True,
            "vision_cfg": {**_VIT, "image_size": 28, "patch_size": 14, "layers": 3},
            "text_cfg": {**_TEXT, "width": 96, "heads": 3},
        },
        _CLIP,
    ),
    "long-context": Encoder(
        "someone/clip-with-a-long-context",
        {"embed_dim": 48, "vision_cfg": _VIT, "text_cfg": {**_TEXT, "context_length": 248}},
        _CLIP,
    ),
    "siglip2": Encoder(
        "timm/ViT-B-32-SigLIP2-256",
        {
            "embed_dim": 96,
            "init_logit_bias": -10,
            "custom_text": True,
            "vision_cfg": {
                "image_size": 160, "timm_model_name": "test_vit3",
                "timm_model_pretrained": False, "timm_pool": "map", "timm_proj": "none",
            },
            "text_cfg": {
                "context_length": 64, "vocab_size": 600, "width": 64, "heads": 2, "layers": 2,
                "hf_tokenizer_name": "timm/ViT-B-32-SigLIP2-256",
                "tokenizer_kwargs": {"clean": "canonicalize"}, "no_causal_mask": True,
                "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6},
                "act_kwargs": {"approximate": "tanh"},
            },
        },
        _SIGLIP,
    ),
    "mobileclip2": Encoder(
        "timm/MobileCLIP2-S0-OpenCLIP",
        {
            "embed_dim": 48,
            "custom_text": True,
            "vision_cfg": {
                "timm_model_name": "fastvit_mci0", "timm_model_pretrained": False,
                "timm_pool": "avg", "timm_proj": None, "image_size": 64,
            },
            "text_cfg": {**_TEXT, "no_causal_mask": True},
        },
        _MOBILE,
    ),
    "xlm-roberta": Encoder(
        "laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k",
        {
            "embed_dim": 48,
            "vision_cfg": _VIT,
            "text_cfg": {
                "hf_model_name": "xlm-roberta-base", "hf_tokenizer_name": "xlm-roberta-base",
                "hf_pooler_type": "mean_pooler",
            },
        },
        _CLIP,
    ),
}  # fmt: skip


def write_encoder(folder: Path, encoder: Encoder, text_tower: Path | None = None) -> Path:
    """Writes configuration, weights and tokenizer as the hub has them.

    Args:
        text_tower: folder with the configuration of a text tower of transformers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads(json.dumps(encoder.config))
    told = {"model_cfg": config, "preprocess_cfg": encoder.preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(told))
    if encoder.config["text_cfg"].get("hf_tokenizer_name") == encoder.name:
        _pieces(lowercase=False, eos="<eos>").save_pretrained(folder)
    torch.manual_seed(0)
    made = json.loads(json.dumps(encoder.config))
    if text_tower:
        made["text_cfg"] |= {"hf_model_name": str(text_tower), "hf_model_pretrained": False}
    custom = made.pop("custom_text", False) or text_tower is not None
    model = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**made).eval()
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


def write_xlm_roberta(folder: Path) -> Path:
    """The repository that names text tower and tokenizer of the xlm-roberta CLIP."""
    tokenizer = _pieces(lowercase=False, bos="<s>", eos="</s>")
    tokenizer.save_pretrained(folder)
    XLMRobertaConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=96, max_position_embeddings=100,
        pad_token_id=tokenizer.pad_token_id,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def _pieces(lowercase: bool, eos: str, bos: str | None = None) -> PreTrainedTokenizerFast:
    """Pieces like sentencepiece's, with an end mark, padded on the right."""
    special = ["<pad>", eos, "<unk>", *([bos] if bos else [])]
    pieces = Tokenizer(models.Unigram())
    if lowercase:
        pieces.normalizer = normalizers.Lowercase()
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    pieces.train_from_iterator(_TEXTS * 20, trainer)
    marks = [(mark, pieces.token_to_id(mark)) for mark in (eos, bos) if mark]
    pieces.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}" if bos else f"$A {eos}", special_tokens=marks
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=pieces, pad_token="<pad>", eos_token=eos, unk_token="<unk>",
        padding_side="right", **({"bos_token": bos} if bos else {}),
    )  # fmt: skip
