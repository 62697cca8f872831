"""How fast pictures are indexed, beside the encoder alone.

    python -m benchmarks.index_build [--pictures 2000] [--write]

The encoder is a ViT-B-32 with random weights, which costs what a trained one does. The pictures are
made up, JPEGs of 1,600 x 1,200 pixels. The encoder alone gets decoded pictures, before and after
the index is built; its better rate counts. ``--write`` puts the table into docs/performance.md.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import open_clip
from PIL import Image
from safetensors.torch import save_file

from benchmarks.pages import PERFORMANCE, write_between
from models.retriever.build import build_from_folder
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.picture_worker import read_all, warm_up

MODEL = "ViT-B-32"
SIZE = (1600, 1200)
ALONE = 256  # pictures that the encoder is measured with
ROUGH = 24  # a picture is noise of so many pixels a side, enlarged
GRAIN = 6  # standard deviation of the noise on top, of 255


def random_encoder(folder: Path, model: str = MODEL) -> ClipEncoder:
    """An encoder of that shape that knows nothing."""
    folder.mkdir()
    network = open_clip.create_model(model)
    config = {"model_cfg": open_clip.get_model_config(model), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(network.state_dict(), folder / "open_clip_model.safetensors")
    return ClipEncoder(f"local-dir:{folder}")


def draw(folder: Path, count: int) -> None:
    """JPEGs that look like out-of-focus photos."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    grain = rng.normal(0, GRAIN, (SIZE[1], SIZE[0], 1))
    for number in range(count):
        rough = Image.fromarray(rng.integers(0, 256, (ROUGH, ROUGH, 3), np.uint8))
        smooth = np.asarray(rough.resize(SIZE, Image.Resampling.BICUBIC), float)
        pixels = (smooth + np.roll(grain, number, axis=0)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05}.jpg", quality=85)


def encoder_rate(encoder: ClipEncoder, pictures: list[Image.Image]) -> float:
    """Pictures a second that are already decoded."""
    began = time.perf_counter()
    encoder.encode_images(pictures)
    return len(pictures) / (time.perf_counter() - began)


def lines(count: int) -> Iterator[str]:
    """The table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        encoder = random_encoder(folder / "encoder")
        draw(folder / "pictures", count)
        files = sorted((folder / "pictures").iterdir())
        kilobytes = sum(file.stat().st_size for file in files) / count / 1e3
        warm_up()
        read = list(read_all(files[: min(ALONE, count)]))
        decoded = [picture for picture in read if isinstance(picture, Image.Image)]
        began = time.perf_counter()
        list(read_all(files[: len(decoded)]))
        decoding = len(decoded) / (time.perf_counter() - began)
        encoder.encode_images(decoded[:32])
        before = encoder_rate(encoder, decoded)
        began = time.perf_counter()
        index, _ = build_from_folder(folder / "pictures", encoder)
        index.save(folder / "index")
        built = count / (time.perf_counter() - began)
        alone = max(before, encoder_rate(encoder, decoded))
    yield f"| {count:,} JPEGs of {kilobytes:.0f} kB | pictures a second | share of the encoder |"
    yield "|---|--:|--:|"
    yield f"| {MODEL} alone, on decoded pictures | {alone:.1f} | 1 |"
    yield f"| decoding alone | {decoding:.1f} | {decoding / alone:.2f} |"
    yield f"| **the index built from files** | {built:.1f} | {built / alone:.2f} |"


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--write", action="store_true", help="write it to docs/performance.md")
    arguments = parser.parse_args()
    table = "\n".join(lines(arguments.pictures))
    print(table)
    if arguments.write:
        write_between(PERFORMANCE, "index build", table)


if __name__ == "__main__":
    main()
