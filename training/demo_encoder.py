"""Trains the demo's CLIP encoder with English names only and writes ``models/demo/encoder/``.

    npm pack emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0 fluentui-emoji@1.3.0
    (unpack each into NPM_DIR/<package name>/)
    python -m training.demo_encoder --npm-dir NPM_DIR --steps 1350

Only for whoever wants to make the shipped weights again: about half an hour on 2 CPU cores. Plain
CLIP training (InfoNCE over a batch of distinct pictures, open_clip's loss), because the demo needs
an encoder that really knows no other language, and small enough to live in git.
"""

import argparse
import json
import random
import time
from pathlib import Path

import open_clip
import torch
from open_clip.loss import ClipLoss
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from models.demo.gallery import LANGUAGES, DemoPicture, distinct_pictures
from training.demo_drawings import caption, load_styles

OUT = Path(__file__).parent.parent / "models" / "demo" / "encoder"
SEED = 0
SIZE = 64
BATCH = 256
LONG_EVERY = 8  # one batch in eight trains the later token positions with long captions

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
    """uint8 ``[b, 3, h, w]`` -> normalised float ``[b, 3, SIZE, SIZE]``: turn, move, scale, light.

    No mirroring (names say left and right) and no change of hue (names say red and blue).
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
    # Sampling the distance from white fills what was outside with white.
    pixels = 1 - functional.grid_sample(1 - pixels, grid, align_corners=False)
    contrast = 1 + (torch.rand(count, 1, 1, 1) - 0.5) * 0.4
    brightness = (torch.rand(count, 1, 1, 1) - 0.5) * 0.2
    return normalise(((pixels - 0.5) * contrast + 0.5 + brightness).clamp(0, 1))


def normalise(pixels: Tensor) -> Tensor:
    """CLIP's mean and standard deviation for each channel, on values from 0 to 1."""
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(open_clip.OPENAI_DATASET_STD).view(1, 3, 1, 1)
    return (pixels - mean) / std


@torch.inference_mode()
def evaluate(model: CLIP, gallery: Tensor, pictures: list[DemoPicture]) -> dict[str, float]:
    """Recall@1 and @10 of each language's names over the whole gallery; ties count against."""
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


def train(npm_dir: Path, steps: int) -> None:
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    pictures, openmoji = distinct_pictures(svg_pixels=SIZE * 2)
    drawings, owner = load_styles(pictures, openmoji, npm_dir, SIZE + 8)
    gallery = normalise(
        functional.interpolate(drawings[: len(pictures)].float() / 255, SIZE, mode="bicubic",
                               antialias=True).clamp(0, 1)
    )  # fmt: skip
    by_picture = [torch.nonzero(owner == i).flatten().tolist() for i in range(len(pictures))]
    print(f"{len(pictures)} pictures, {len(drawings)} drawings", flush=True)

    open_clip.factory._MODEL_CONFIGS["grape-demo"] = CONFIG["model_cfg"]
    model = open_clip.create_model("grape-demo").to(memory_format=torch.channels_last)
    tokenize = open_clip.get_tokenizer("ViT-B-32")
    loss_fn = ClipLoss()
    no_decay = [p for p in model.parameters() if p.ndim < 2]
    decay = [p for p in model.parameters() if p.ndim >= 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": no_decay, "weight_decay": 0.0}],
        betas=(0.9, 0.98),
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=2e-3, total_steps=steps, pct_start=0.08
    )
    seen: set[int] = set()
    started = time.monotonic()
    model.train()
    for step in range(steps):
        chosen = rng.sample(range(len(pictures)), BATCH)
        # A third of the time OpenMoji's own drawing, which stands first; else any style.
        picks = [
            by_picture[i][0] if rng.random() < 0.35 else rng.choice(by_picture[i]) for i in chosen
        ]
        tokens = tokenize([caption(pictures[i], rng, step % LONG_EVERY == 0) for i in chosen])
        seen.update(tokens.unique().tolist())
        image_features = model.encode_image(
            augment(drawings[picks]).to(memory_format=torch.channels_last), normalize=True
        )
        text_features = encode_short(model, tokens)
        loss = loss_fn(image_features, text_features, model.logit_scale.exp())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=4.6052)  # ln 100, CLIP's ceiling
        if step % 20 == 0:
            rate = (time.monotonic() - started) / (step + 1)
            print(f"step {step} loss {loss.item():.3f} {rate:.2f} s/step", flush=True)
        if step and step % 300 == 0:
            save(model, seen, evaluate(model, gallery, pictures), step)
    save(model, seen, evaluate(model, gallery, pictures), steps)


def encode_short(model: CLIP, tokens: Tensor) -> Tensor:
    """Text features from the positions in use only: the tower is causal, padding changes
    nothing.
    """
    length = int(tokens.ne(0).sum(1).max())
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    pooled = x[torch.arange(len(x)), tokens.argmax(1)] @ model.text_projection
    return functional.normalize(pooled, dim=-1)


def save(model: CLIP, seen: set[int], metrics: dict[str, float], steps: int) -> None:
    """Writes fp16 weights, config and metrics; rows of tokens that no caption used become zero."""
    print(f"after {steps} steps: {metrics}", flush=True)
    OUT.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    unseen = torch.ones(len(state["token_embedding.weight"]), dtype=torch.bool)
    unseen[sorted(seen)] = False
    state["token_embedding.weight"][unseen] = 0
    half = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in state.items()}
    save_file(half, OUT / "open_clip_model.safetensors")
    (OUT / "open_clip_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    (OUT / "metrics.json").write_text(
        json.dumps({"steps": steps, "seed": SEED, "gallery": metrics}, indent=2) + "\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--npm-dir", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1350)
    arguments = parser.parse_args()
    train(arguments.npm_dir, arguments.steps)
