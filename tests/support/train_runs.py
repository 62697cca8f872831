"""Short runs of `grape train` on a tiny model."""

import subprocess
from pathlib import Path

import yaml

from tests.support.grape_server import GRAPE

STEPS = 8


def config(folder: Path, base: Path, **changes: object) -> Path:
    values = {
        "llm": str(base),
        "out": str(folder / "adapter"),
        "warm_start": False,
        "tasks": ["multilingual"],
        "seed": 1,
        "steps": STEPS,
        "prompts_per_step": 4,
        "group_size": 4,
        "micro_batch": 8,
        "learning_rate": 1e-2,
        "beta": 0.05,
        "lora_rank": 4,
        "average_weights_from": 4,
        "save_every": 2,
        "validation_every": 4,
        "validation_queries": {"multilingual": 12},
        "test_queries": {},
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def train(config_file: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [GRAPE, "train", "--config", config_file, *flags],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
