"""`grape index build` and a peer that reads the same pictures, in turns on the same cores."""

import shutil
import statistics
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.peers.programs import seconds_of
from benchmarks.peers.shared import CHECKED_PICTURES, Shared
from models.retriever.image_index import ImageIndex
from models.retriever.types import Vectors
from tests.support.grape_server import GRAPE

PICTURES = 512
FEW = 8  # of which a command takes little more than its start
HEAD = (
    "| `index build` beside | GRAPE pictures per second | it per second | times | bar "
    "| GRAPE start s | its start s | held |",
    "|---|--:|--:|--:|--:|--:|--:|---|",
)
BAR = 1.0


class Builder(ABC):
    """A command that encodes a folder of pictures."""

    name: str

    def __init__(self, shared: Shared) -> None:
        self.shared = shared

    @abstractmethod
    def seconds(self, pictures: Path, out: Path) -> float:
        """From the start of the command to its end. ``out`` does not exist before."""

    @abstractmethod
    def vectors(self, out: Path) -> Vectors:
        """What it wrote, in the order of the names of the files."""

    def measured(self, few: Path, many: Path, more: int) -> tuple[float, float]:
        """Pictures a second once it has started, and the seconds of the start.

        Args:
            more: how many pictures the second folder has more than the first.
        """
        out = self.shared.folder / f"built-by-{self.name}"
        times = []
        for pictures in (few, many):
            shutil.rmtree(out, ignore_errors=True)
            times.append(self.seconds(pictures, out))
        rate = more / (times[1] - times[0])
        return rate, times[0] - FEW / rate

    def require_same(self, pictures: Path) -> None:
        """Compares its vectors with those of the encoder alone.

        Raises:
            PeerError: they differ.
        """
        out = self.shared.folder / f"checked-{self.name}"
        self.seconds(pictures, out)
        self.shared.require_same_pictures(self.name, sorted(pictures.iterdir()), self.vectors(out))


class GrapeBuild(Builder):
    """`grape index build`."""

    name = "GRAPE"

    def seconds(self, pictures: Path, out: Path) -> float:
        encoder = self.shared.encoder.fingerprint.name
        return seconds_of([GRAPE, "index", "build", pictures, "--out", out, "--encoder", encoder])

    def vectors(self, out: Path) -> Vectors:
        return ImageIndex.open(out, self.shared.encoder.fingerprint).vectors()


def rows(shared: Shared, theirs: Builder, rounds: int, count: int) -> Iterator[str]:
    """The row of a peer.

    Raises:
        PeerError: its vectors, or those that GRAPE writes, are not the encoder's.
    """
    few, many = shared.first_pictures(FEW, count), shared.pictures(count)
    both = (GrapeBuild(shared), theirs)
    for one in both:
        one.require_same(shared.first_pictures(CHECKED_PICTURES, count))
    turns = [[one.measured(few, many, count - FEW) for one in both] for _ in range(rounds)]
    times = statistics.median(ours[0] / other[0] for ours, other in turns)
    (rate, start), (its_rate, its_start) = np.median(turns, axis=0)
    held = "yes" if times > BAR else "**no**"
    yield (
        f"| {theirs.name} | {rate:.1f} | {its_rate:.1f} | {times:.2f} | {BAR:g} "
        f"| {start:.1f} | {its_start:.1f} | {held} |"
    )
