"""Ranking a batch in a corpus of a million pictures, against one plain matrix product.

    python -m benchmarks.rank --images 1000000 --dim 512 --texts 256

The floor multiplies the texts with the whole corpus, piece by piece into one buffer, and drops the
scores. Peak memory is counted over that of the corpus, for a batch whose scores would take 1 GB at
once.
"""

import argparse
import contextlib
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from models.retriever.types import Vectors
from training.rewards.ranking import Corpus

_PIECE = 4096


def unit_vectors(rng: np.random.Generator, count: int, dim: int) -> Vectors:
    """Random vectors of length one, float32 [count, dim]."""
    rows = rng.standard_normal((count, dim), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def fastest(work: Callable[[], object], times: int) -> float:
    """Seconds of the fastest of several runs: the machine may be shared."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def plain_product(vectors: torch.Tensor, texts: torch.Tensor) -> None:
    buffer = torch.empty(len(texts), _PIECE)
    for start in range(0, len(vectors), _PIECE):
        piece = vectors[start : start + _PIECE]
        torch.mm(texts, piece.T, out=buffer[:, : len(piece)] if len(piece) < _PIECE else buffer)


def peak_mb() -> float:
    """Most memory that this process has used, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def reset_peak() -> None:
    """Making the corpus held it twice, which would hide what ranking takes."""
    with contextlib.suppress(OSError):  # not available on every Linux
        Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1_000_000, help="pictures in the corpus")
    parser.add_argument("--dim", type=int, default=512, help="dimensions of a vector")
    parser.add_argument("--texts", type=int, default=256, help="texts in the batch")
    parser.add_argument("--times", type=int, default=3, help="runs, of which the fastest counts")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    corpus = Corpus.of(unit_vectors(rng, arguments.images, arguments.dim))
    texts = unit_vectors(rng, arguments.texts, arguments.dim)
    targets = [[int(t)] for t in rng.integers(0, arguments.images, arguments.texts)]
    queries = torch.from_numpy(texts)

    corpus.rank(texts[:2], targets[:2])
    reset_peak()
    before = peak_mb()
    floor = fastest(lambda: plain_product(corpus.vectors, queries), arguments.times)
    ranked = fastest(lambda: corpus.rank(texts, targets), arguments.times)
    print(f"{arguments.texts} texts, {arguments.images:,} pictures of {arguments.dim} dimensions")
    print(f"plain matrix product {floor:.2f} s, ranking {ranked:.2f} s: {ranked / floor:.2f} times")
    print(f"memory in addition to the corpus: {peak_mb() - before:.0f} MB")


if __name__ == "__main__":
    main()
