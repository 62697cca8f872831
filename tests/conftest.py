"""Fixtures that all tests share: small real parts, and the demo's."""

from typing import TYPE_CHECKING

import pytest

from models.common import paths
from models.retriever.manifest import EncoderFingerprint
from tests.support.vectors import DIM

if TYPE_CHECKING:
    from models.retriever.clip_encoder import ClipEncoder
    from models.retriever.image_index import ImageIndex

pytest_plugins = [
    "tests.support.app",
    "tests.support.at_hub",
    "tests.support.milvus_server",
]

# A test that uses one of these, directly or through another fixture, loads a model or the gallery.
HEAVY_FIXTURES = {
    "demo_index", "either", "encoder", "milvus", "milvus_lite", "server_first", "text_encoder",
    "tiny_llm", "tiny_vllm_llm",
}  # fmt: skip


def pytest_itemcollected(item: pytest.Item) -> None:
    """Marks what `make unit` leaves out, as far as it can be seen from outside of a test."""
    fixtures = set(getattr(item, "fixturenames", ()))
    if "e2e" in item.path.parts or fixtures & HEAVY_FIXTURES:
        item.add_marker(pytest.mark.heavy)


@pytest.fixture(scope="session")
def encoder() -> "ClipEncoder":
    """The demo's encoder, as the repository holds it."""
    from models.retriever.clip_encoder import ClipEncoder

    return ClipEncoder(paths.ENCODER)


@pytest.fixture(scope="session")
def demo_index(encoder: "ClipEncoder") -> "ImageIndex":
    """The demo's gallery, as `grape demo prepare` writes it."""
    from models.retriever.image_index import ImageIndex

    return ImageIndex.open(paths.index_dir(), encoder.fingerprint)


@pytest.fixture
def fingerprint() -> EncoderFingerprint:
    """An encoder that does not exist: enough to build an index of made-up vectors."""
    return EncoderFingerprint(
        name="ViT-Test",
        pretrained="none",
        weights_sha256="a" * 64,
        preprocess_sha256="b" * 64,
        tokenizer_sha256="c" * 64,
        dim=DIM,
    )
