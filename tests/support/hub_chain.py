"""From two names on the hub to a served adapter: the commands in the order of their use."""

import json
import subprocess
from pathlib import Path

import yaml
from PIL import Image, ImageDraw

from tests.support.grape_server import GRAPE

COLOURS = ("red", "green", "blue", "yellow", "black", "white")
SHAPES = ("circle", "square", "line", "star")
_GERMAN = {"red": "rot", "green": "grün", "blue": "blau", "yellow": "gelb", "black": "schwarz",
           "white": "weiß", "circle": "Kreis", "square": "Quadrat", "line": "Linie",
           "star": "Stern"}  # fmt: skip


def write_pictures(folder: Path) -> Path:
    """A picture of each shape in each colour, named after it."""
    folder.mkdir()
    for colour in COLOURS:
        for shape in SHAPES:
            picture = Image.new("RGB", (48, 48), "grey")
            draw = ImageDraw.Draw(picture)
            if shape == "circle":
                draw.ellipse((8, 8, 40, 40), colour)
            elif shape == "square":
                draw.rectangle((8, 8, 40, 40), colour)
            elif shape == "line":
                draw.line((4, 44, 44, 4), colour, 6)
            else:
                draw.regular_polygon((24, 24, 20), 5, 0, colour)
            picture.save(folder / f"{colour}-{shape}.png")
    return folder


def write_rows(path: Path) -> Path:
    """A German query for each picture, with its English name; every split has some."""
    rows = []
    for number, (colour, shape) in enumerate((c, s) for c in COLOURS for s in SHAPES):
        rows.append(
            {
                "query": f"{_GERMAN[shape]} in {_GERMAN[colour]}",
                "targets": [f"{colour}-{shape}.png"],
                "language": "de",
                "english": f"{colour} {shape}",
                "split": ("train", "train", "validation", "test")[(number + number // 4) % 4],
            }
        )
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def write_settings(
    path: Path, index: Path, llm: str, samples: bool = True, **changes: object
) -> Path:
    """A short training: the English names as warm start, and two steps of GRPO.

    Args:
        samples: whether the model is asked too. Without that vLLM is not started: the warm start
            has begun, so that what was sampled until then is all.
    """
    if not samples:
        path.with_name("adapter.work").joinpath("warm_start").mkdir(parents=True)
    data = write_rows(path.with_name("rows.jsonl"))
    values = {
        "index": str(index), "data": str(data), "llm": llm, "out": str(path.with_name("adapter")),
        "tasks": ["multilingual"], "samples": 1, "warm_start_rank": 1000,
        "warm_start_english": ["multilingual"], "warm_start_epochs": 30, "warm_start_batch": 4,
        "warm_start_learning_rate": 1e-2, "steps": 2, "prompts_per_step": 2, "group_size": 2,
        "micro_batch": 4, "learning_rate": 1e-3, "lora_rank": 4, "save_every": 2,
        "validation_every": 2, "validation_queries": {"multilingual": 4}, "test_queries": {},
        **changes,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(values))
    return path


def grape(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a command with this process's environment; it must succeed."""
    done = subprocess.run(
        [GRAPE, *map(str, arguments)],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done
