"""Made-up vectors, for tests that need numbers but no encoder."""

import numpy as np

from models.retriever.types import Vectors

DIM = 8


def unit_vectors(count: int, seed: int = 0, dim: int = DIM) -> Vectors:
    """Random rows of length 1, float32 ``[count, dim]``."""
    vectors: Vectors = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors
