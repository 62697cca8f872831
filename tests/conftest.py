"""Shared by all tests: small real parts, made in place."""

import numpy as np
import pytest

from models.demo import paths
from models.encoder import ClipEncoder
from models.index import ImageIndex
from models.manifest import EncoderFingerprint
from models.types import Vectors

DIM = 8


@pytest.fixture(scope="session")
def encoder() -> ClipEncoder:
    """The demo's encoder, as it lies in the repository."""
    return ClipEncoder(paths.ENCODER)


@pytest.fixture(scope="session")
def demo_index(encoder: ClipEncoder) -> ImageIndex:
    """The demo's gallery, as `grape demo prepare` makes it."""
    return ImageIndex.open(paths.index_dir(), encoder.fingerprint)


@pytest.fixture
def fingerprint() -> EncoderFingerprint:
    """Of an encoder that does not exist: enough to build an index of made-up vectors."""
    return EncoderFingerprint(
        name="ViT-Test",
        pretrained="none",
        weights_sha256="a" * 64,
        preprocess_sha256="b" * 64,
        tokenizer_sha256="c" * 64,
        dim=DIM,
    )


def unit_vectors(count: int, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
