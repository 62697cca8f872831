"""Shared by all tests: small real parts, made in place."""

import pytest

from models.common import paths
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.retriever.manifest import EncoderFingerprint
from tests.support.vectors import DIM

pytest_plugins = ["tests.support.app"]


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
