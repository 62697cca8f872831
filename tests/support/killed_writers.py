"""Writers of an index that are killed at random moments; run by test_index_writers.py.

    python -m tests.support.killed_writers FOLDER KILLS SEED

Prints how many generations the index had, as the readers between the kills saw them.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from models.retriever import build
from models.retriever.build import build_from_folder
from models.retriever.folder import scan
from models.retriever.image_index import ImageIndex
from models.retriever.index_files import writing
from models.retriever.sync import compare, synced, without
from tests.support.colours import ColourEncoder, paint, vector_of

PICTURES = 30


def read_here(paths: Iterable[Path], enough: int) -> Iterator[Image.Image]:
    """In this process: processes that start processes would take a second for each kill."""
    return (Image.open(path).convert("RGB") for path in paths)


def write_for_ever(folder: Path, chance: random.Random) -> None:
    pictures, target = folder / "pictures", folder / "index"
    encoder = ColourEncoder()
    while True:
        step = chance.choice(["build", "remove", "sync", "sync"])
        if step == "build":
            build_from_folder(pictures, encoder)[0].save(target)
            continue
        with writing(target):
            index = ImageIndex.open(target, encoder.fingerprint)
            if step == "remove":
                changes = without(index, chance.sample(list(index.ids), len(index) // 3))
            else:
                paint(pictures / ".new.png", colour(chance.randrange(250)))
                os.replace(pictures / ".new.png", pictures / f"{chance.randrange(PICTURES)}.png")
                changes = compare(index, pictures, scan(pictures))
            synced(index, pictures, changes, lambda: encoder).index.save(target)


def colour(number: int) -> tuple[int, int, int]:
    return number, 255 - number, number * 7 % 256


def read(folder: Path) -> str:
    """The generation, if the index is whole: each vector is that of its record's picture."""
    index = ImageIndex.open(folder / "index", ColourEncoder.fingerprint)
    assert len(set(index.ids)) == len(index) > 0
    known = {str(vector_of(colour(number)).tolist()) for number in range(256)}
    for place, item in enumerate(index.items.items()):
        assert str(index.vector(place).tolist()) in known
        stamp, path = item.stamp, folder / "pictures" / str(item.record["file"])
        assert stamp
        if build.stamp_of(path) == stamp:  # not painted again since
            with Image.open(path) as picture:
                expected = ColourEncoder().encode_images([picture])[0]
            np.testing.assert_array_equal(index.vector(place), expected)
    return index.manifest.generation


def main() -> None:
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    vars(build)["read_all"] = read_here
    chance = random.Random(seed)
    for number in range(PICTURES):
        paint(folder / "pictures" / f"{number}.png", colour(number))
    build_from_folder(folder / "pictures", ColourEncoder())[0].save(folder / "index")
    generations = set()
    for kill in range(kills):
        child = os.fork()
        if not child:
            try:
                write_for_ever(folder, random.Random(seed + kill))
            except BaseException as error:
                os.write(2, f"a writer failed: {error!r}\n".encode())
            os._exit(1)
        time.sleep(chance.uniform(0.01, 0.15))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL, "the writer ended by itself"
        generations.add(read(folder))
    print(len(generations))


if __name__ == "__main__":
    main()
