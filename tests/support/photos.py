"""A small index with metadata to filter by, served with the demo's encoder."""

import csv
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from tests.support.grape_server import GRAPE, Server

PLACES = ("Oslo", "Bergen", "北京", "تهران")
COUNT = 24


def build(folder: Path) -> Path:
    """Two dozen plain pictures with place, stars, day and tags."""
    pictures = folder / "pictures"
    pictures.mkdir()
    with open(folder / "table.csv", "w", newline="") as table:
        rows = csv.writer(table)
        rows.writerow(["file", "name", "place", "stars", "taken", "indoors", "iso"])
        for n in range(COUNT):
            name = f"{n:02}.png"
            colour = f"hsl({n * 15}, 80%, 50%)"
            Image.new("RGB", (96, 64), colour).save(pictures / name)
            day = f"2024-{n % 12 + 1:02}-15"
            rows.writerow([name, f"view {n}", PLACES[n % 4], n % 3, day, n % 2 == 0, 100 + n])
    index = folder / "index"
    command: list[str | Path] = [GRAPE, "index", "build", pictures, "--out", index]
    subprocess.run(
        [*command, "--metadata", folder / "table.csv"], check=True, capture_output=True, text=True
    )
    return index


@contextmanager
def serving(folder: Path, *flags: str) -> Iterator[Server]:
    """Serves it without a language model."""
    server = Server(folder / "log", "--index", str(build(folder)), "--llm", "none", *flags)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()
