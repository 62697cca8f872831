"""Trains the demo's CLIP encoder with English names only and writes ``models/demo/encoder/``.

    npm pack emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0 \\
        fluentui-emoji@1.3.0 emojilib@4.0.3
    (unpack each into NPM_DIR/<package name>/)
    python -m training.demo_encoder.train --npm-dir NPM_DIR

Needed only to reproduce the shipped weights; takes about 50 minutes on 2 CPU cores. It is plain
CLIP training (InfoNCE over a batch of distinct pictures, open_clip's loss), because the demo needs
an encoder that knows only English and is small enough for git. Then the image tower is locked, and
the text tower alone learns keywords, as in locked-image tuning (Zhai et al., arXiv 2111.07991):
people say "present" for the drawing whose name is "wrapped gift".
"""

import argparse
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
from open_clip.loss import ClipLoss
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from models.demo.gallery import LANGUAGES, DemoPicture, distinct_pictures
from training.demo_encoder.drawings import caption, keyword_caption, load_keywords, load_styles

OUT = Path(__file__).parent.parent.parent / "models" / "demo" / "encoder"
SEED = 0
SIZE = 64
BATCH = 256
LONG_EVERY = 8  # every eighth batch has long captions, which train the later token positions
STEPS = 1350
KEYWORD_STEPS = 1600
KEYWORD_BATCH = 512
KEYWORD_VIEWS = (
    6  # augmented views of every drawing, encoded once, because the image tower is locked
)

CONFIG = {
    "model_cfg": {
        "embed_dim": 128,
        "vision_cfg": {
            "timm_model_name": "resnet10t",
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "linear",
            "image_size": SIZE,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 128,
            "heads": 4,
            "layers": 3,
        },
    },
    "preprocess_cfg": {
        "mean": list(open_clip.OPENAI_DATASET_MEAN),
        "std": list(open_clip.OPENAI_DATASET_STD),
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
}


def augment(images: Tensor) -> Tensor:
    """uint8 ``[b, 3, h, w]`` -> normalised float ``[b, 3, SIZE, SIZE]``: rotated, moved, lit.

    No mirroring (names say left and right) and no hue shift (names say red and blue).
    """
    count = len(images)
    pixels = images.float() / 255
    angle = (torch.rand(count) - 0.5) * 0.5  # radians: up to 14 degrees either way
    zoom = 1 + (torch.rand(count) - 0.4) * 0.35
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = torch.cos(angle) * zoom
    theta[:, 0, 1], theta[:, 1, 0] = -torch.sin(angle) * zoom, torch.sin(angle) * zoom
    theta[:, :, 2] = (torch.rand(count, 2) - 0.5) * 0.24
    grid = functional.affine_grid(theta, [count, 3, SIZE, SIZE], align_corners=False)
    # Sampling the distance from white fills the area outside the image with white.
    pixels = 1 - functional.grid_sample(1 - pixels, grid, align_corners=False)
    contrast = 1 + (torch.rand(count, 1, 1, 1) - 0.5) * 0.4
    brightness = (torch.rand(count, 1, 1, 1) - 0.5) * 0.2
    return normalise(((pixels - 0.5) * contrast + 0.5 + brightness).clamp(0, 1))


def normalise(pixels: Tensor) -> Tensor:
    """CLIP's mean and standard deviation for each channel, on values from 0 to 1."""
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(open_clip.OPENAI_DATASET_STD).view(1, 3, 1, 1)
    return (pixels - mean) / std


@dataclass(frozen=True)
class Drawings:
    """Every drawing of every picture.

    ``pixels`` is uint8 ``[n, 3, SIZE + 8, SIZE + 8]``; ``by_picture`` lists the rows of ``pixels``
    for each picture, OpenMoji's first; ``gallery`` is float ``[pictures, 3, SIZE, SIZE]``, of
    OpenMoji only.
    """

    pictures: list[DemoPicture]
    pixels: Tensor
    by_picture: list[list[int]]
    gallery: Tensor

    def pick(self, chosen: list[int], rng: random.Random, openmoji_share: float) -> list[int]:
        """One drawing of each chosen picture: OpenMoji's or, at random, one of any style."""
        return [
            self.by_picture[i][0]
            if rng.random() < openmoji_share
            else rng.choice(self.by_picture[i])
            for i in chosen
        ]


@torch.inference_mode()
def evaluate(model: CLIP, gallery: Tensor, pictures: list[DemoPicture]) -> dict[str, float]:
    """R@1 and R@10 of each language's names over the whole gallery; ties count against."""
    model.eval()
    tokenize = open_clip.get_tokenizer("ViT-B-32")
    images = torch.cat(
        [model.encode_image(chunk, normalize=True) for chunk in torch.split(gallery, 256)]
    )
    report = {}
    for language in LANGUAGES:
        texts = tokenize([picture.names[language] for picture in pictures])
        queries = torch.cat([model.encode_text(c, normalize=True) for c in torch.split(texts, 256)])
        scores = queries @ images.T
        ranks = (scores >= scores.diagonal().unsqueeze(1)).sum(1)
        report[f"{language}_R@1"] = (ranks <= 1).float().mean().item()
        report[f"{language}_R@10"] = (ranks <= 10).float().mean().item()
    model.train()
    return {key: round(value, 4) for key, value in report.items()}


def load_drawings(npm_dir: Path) -> Drawings:
    pictures, openmoji = distinct_pictures(svg_pixels=SIZE * 2)
    pixels, owner = load_styles(pictures, openmoji, npm_dir, SIZE + 8)
    gallery = normalise(
        functional.interpolate(pixels[: len(pictures)].float() / 255, SIZE, mode="bicubic",
                               antialias=True).clamp(0, 1)
    )  # fmt: skip
    by_picture = [torch.nonzero(owner == i).flatten().tolist() for i in range(len(pictures))]
    print(f"{len(pictures)} pictures, {len(pixels)} drawings", flush=True)
    return Drawings(pictures, pixels, by_picture, gallery)


def train_both_towers(model: CLIP, drawings: Drawings, rng: random.Random) -> None:
    """Names and their aliases against augmented drawings of every style."""
    tokenize = open_clip.get_tokenizer("ViT-B-32")

    def batch(step: int) -> tuple[Tensor, Tensor]:
        chosen = rng.sample(range(len(drawings.pictures)), BATCH)
        picks = drawings.pick(chosen, rng, openmoji_share=0.35)
        captions = [caption(drawings.pictures[i], rng, step % LONG_EVERY == 0) for i in chosen]
        pixels = augment(drawings.pixels[picks]).to(memory_format=torch.channels_last)
        return model.encode_image(pixels, normalize=True), tokenize(captions)

    model.to(memory_format=torch.channels_last)
    optimise(model, list(model.parameters()), batch, STEPS, max_lr=2e-3)


def train_text_tower(
    model: CLIP, drawings: Drawings, keywords: list[dict[str, float]], rng: random.Random
) -> None:
    """Names and keywords against the locked tower's vectors of the pictures."""
    tokenize = open_clip.get_tokenizer("ViT-B-32")
    model.eval()
    with torch.no_grad():
        views = torch.stack(
            [
                torch.cat(
                    [
                        model.encode_image(augment(chunk), normalize=True)
                        for chunk in torch.split(drawings.pixels, BATCH)
                    ]
                )
                for _ in range(KEYWORD_VIEWS)
            ]
        )

    def batch(step: int) -> tuple[Tensor, Tensor]:
        chosen = rng.sample(range(len(drawings.pictures)), KEYWORD_BATCH)
        picks = drawings.pick(chosen, rng, openmoji_share=0.5)
        captions = [
            caption(drawings.pictures[i], rng, long=True)
            if step % LONG_EVERY == 0
            else keyword_caption(drawings.pictures[i], keywords[i], rng)
            for i in chosen
        ]
        return views[rng.randrange(KEYWORD_VIEWS), picks], tokenize(captions)

    text = [value for name, value in model.named_parameters() if not name.startswith("visual.")]
    optimise(model, text, batch, KEYWORD_STEPS, max_lr=1.2e-3)


def optimise(
    model: CLIP,
    parameters: list[torch.nn.Parameter],
    batch: Callable[[int], tuple[Tensor, Tensor]],
    steps: int,
    max_lr: float,
) -> None:
    """Steps of AdamW on CLIP's loss; ``batch`` returns picture vectors and text tokens."""
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=max_lr, total_steps=steps, pct_start=0.08
    )
    loss_fn = ClipLoss()
    started = time.monotonic()
    for step in range(steps):
        image_features, tokens = batch(step)
        loss = loss_fn(image_features, encode_short(model, tokens), model.logit_scale.exp())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=4.6052)  # ln 100, CLIP's ceiling
        if step % 20 == 0:
            rate = (time.monotonic() - started) / (step + 1)
            print(f"step {step} loss {loss.item():.3f} {rate:.2f} s/step", flush=True)


def encode_short(model: CLIP, tokens: Tensor) -> Tensor:
    """Text features from the used positions only: the tower is causal, so padding has no effect."""
    length = int(tokens.ne(0).sum(1).max())
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    pooled = x[torch.arange(len(x)), tokens.argmax(1)] @ model.text_projection
    return functional.normalize(pooled, dim=-1)


def zero_untrained_tokens(model: CLIP, initial: Tensor) -> None:
    """Zeroes the rows of tokens that no caption used: random values do not compress in git."""
    weights = model.token_embedding.weight.data
    shrunk = (weights * initial).sum(1) / (weights.norm(dim=1) * initial.norm(dim=1))
    weights[shrunk > 1 - 1e-6] = 0  # a row that only decayed has kept its direction


def save(model: CLIP, metrics: dict[str, float]) -> None:
    """Writes fp16 weights, config and metrics."""
    print(metrics, flush=True)
    OUT.mkdir(parents=True, exist_ok=True)
    half = {
        name: value.detach().half().contiguous() if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    save_file(half, OUT / "open_clip_model.safetensors")
    (OUT / "open_clip_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    report = {"steps": STEPS, "keyword_steps": KEYWORD_STEPS, "seed": SEED, "gallery": metrics}
    (OUT / "metrics.json").write_text(json.dumps(report, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--npm-dir", type=Path, required=True)
    npm_dir = parser.parse_args().npm_dir
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    drawings = load_drawings(npm_dir)
    open_clip.factory._MODEL_CONFIGS["grape-demo"] = CONFIG["model_cfg"]
    model = open_clip.create_model("grape-demo").train()
    initial = model.token_embedding.weight.detach().clone()
    train_both_towers(model, drawings, rng)
    train_text_tower(model, drawings, load_keywords(drawings.pictures, npm_dir), rng)
    zero_untrained_tokens(model, initial)
    save(model, evaluate(model, drawings.gallery, drawings.pictures))


if __name__ == "__main__":
    main()
