"""The compose profile `train` in `make docker-test`: a short run; its adapter is then served."""

import json
from typing import TYPE_CHECKING

from tests.docker.report import say, timed

if TYPE_CHECKING:
    from tests.docker.cpu_image import Stack

# Small on purpose: the test is that training works, not what the adapter learns.
CONFIG = {
    "data": "demo",
    "tasks": ["multilingual"],
    "out": "/data/trained",
    "samples": 2,
    "warm_start_queries": {"multilingual": 24},
    "warm_start_rank": 1000,
    "warm_start_epochs": 4,
    "warm_start_learning_rate": 1e-3,
    "lora_rank": 4,
    "steps": 0,
    "validation_queries": {"multilingual": 8},
    "test_queries": {},
}


def check_training(stack: "Stack") -> None:
    """Leaves the stack up, with the new adapter."""
    stack.inside("sh", "-c", f"printf '%s' '{json.dumps(CONFIG)}' > /data/train.yaml")
    stack.down()
    with timed("compose run train: 24 queries sampled and trained on"):
        done = stack.docker.compose(
            stack.folder, "--profile", "train", "run", "--rm", "-T", "train", check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
    with (stack.folder / ".env").open("a") as settings:
        settings.write("GRAPE_ADAPTER=/data/trained\n")
    stack.up("up with the new adapter, until healthy")
    name = stack.client.get("/info").json()["adapter"]
    found = stack.search("Haus", rewrite="always")["rewrite"]
    assert isinstance(found, dict)
    assert name.startswith("multilingual-"), name
    assert found["adapter"] == name, found
    say(f"search Haus: {found['texts']} by {name}")
