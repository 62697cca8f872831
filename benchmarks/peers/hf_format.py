"""open_clip's CLIP as a folder that transformers reads as CLIPModel, tokenizer included."""

import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import open_clip
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode, default_bpe
from safetensors.torch import save_file
from torch import Tensor

START, END = "<start_of_text>", "<end_of_text>"  # as open_clip calls them
HEAD_WIDTH = 64  # of the vision tower, in open_clip's configurations
_OUTSIDE_THE_LAYERS = {
    "logit_scale": "logit_scale",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",  # spelt like that
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
}
_PROJECTIONS = {  # open_clip multiplies from the other side
    "text_projection": "text_projection.weight",
    "visual.proj": "visual_projection.weight",
}
_INSIDE_A_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def renamed(weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The weights of an open_clip model under the names of transformers' CLIPModel."""
    for name, value in weights.items():
        if name in _OUTSIDE_THE_LAYERS:
            yield _OUTSIDE_THE_LAYERS[name], value
        elif name in _PROJECTIONS:
            yield _PROJECTIONS[name], value.T.contiguous()
        else:
            yield from _of_layer(name, value)


def _of_layer(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """open_clip keeps the three matrices of an attention in one."""
    before, _, after = name.partition("transformer.resblocks.")
    number, _, part = after.partition(".")
    tower = "vision_model" if before == "visual." else "text_model"
    layer = f"{tower}.encoder.layers.{number}"
    part, _, kind = part.rpartition(".")
    if kind.startswith("in_proj_"):
        for which, third in zip("qkv", value.chunk(3), strict=True):
            yield f"{layer}.self_attn.{which}_proj.{kind[len('in_proj_') :]}", third.contiguous()
    else:
        yield f"{layer}.{_INSIDE_A_LAYER[part]}.{kind}", value


def clip_config(model: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of CLIPModel for one of open_clip's without QuickGELU."""
    vision, text = model["vision_cfg"], model["text_cfg"]
    tokenizer = SimpleTokenizer()
    ends = {
        "bos_token_id": tokenizer.sot_token_id,
        "eos_token_id": tokenizer.eot_token_id,
        "pad_token_id": tokenizer.eot_token_id,
    }
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": model["embed_dim"],
        "text_config": {
            "hidden_act": "gelu",
            "hidden_size": text["width"],
            "intermediate_size": 4 * text["width"],
            "max_position_embeddings": text["context_length"],
            "num_attention_heads": text["heads"],
            "num_hidden_layers": text["layers"],
            "projection_dim": model["embed_dim"],
            "vocab_size": text["vocab_size"],
            **ends,
        },
        "vision_config": {
            "hidden_act": "gelu",
            "hidden_size": vision["width"],
            "image_size": vision["image_size"],
            "intermediate_size": 4 * vision["width"],
            "num_attention_heads": vision["width"] // HEAD_WIDTH,
            "num_hidden_layers": vision["layers"],
            "patch_size": vision["patch_size"],
            "projection_dim": model["embed_dim"],
        },
    }


def preprocessor(side: int) -> dict[str, Any]:
    """Bicubic, cropped at the centre: what open_clip does."""
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "image_mean": OPENAI_DATASET_MEAN,
        "image_std": OPENAI_DATASET_STD,
    }


def write_tokenizer(folder: Path) -> None:
    """From the merges that open_clip ships; its vocabulary follows from their order."""
    merges = gzip.decompress(Path(default_bpe()).read_bytes()).decode().split("\n")
    letters = list(bytes_to_unicode().values())
    words = len(SimpleTokenizer().encoder) - 2 * len(letters) - 2
    merges = merges[1 : 1 + words]  # the first line is a comment
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    pieces += ["".join(merge.split()) for merge in merges]
    vocabulary = {piece: number for number, piece in enumerate([*pieces, START, END])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    named = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "special_tokens_map.json").write_text(json.dumps(named))
    described = {**named, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True}
    described["model_max_length"] = 77
    described["processor_class"] = "CLIPProcessor"
    (folder / "tokenizer_config.json").write_text(json.dumps(described))


def write(folder: Path, model: str, weights: Mapping[str, Tensor]) -> None:
    """The whole folder of one of open_clip's models."""
    folder.mkdir()
    config = open_clip.get_model_config(model)
    (folder / "config.json").write_text(json.dumps(clip_config(config)))
    side = config["vision_cfg"]["image_size"]
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor(side)))
    write_tokenizer(folder)
    save_file(dict(renamed(weights)), folder / "model.safetensors", metadata={"format": "pt"})
