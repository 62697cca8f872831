"""Vectors that no encoder made, for tests that need only numbers."""

import numpy as np

from models.retriever.types import Vectors

DIM = 8


def unit_vectors(count: int, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
