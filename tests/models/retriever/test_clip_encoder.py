"""ClipEncoder against open_clip used as its documentation says."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from models.common import paths
from models.common.errors import InputError
from models.retriever.build import build_index
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.picture_worker import read_all

TEXTS = [
    "a red dragon",
    "wow!! 3 cats, really?! (yes)",
    "",
    "中文 über 🙂",
    "word " * 76,
    "word " * 300,
    "x" * 150,
]


@pytest.fixture(scope="module")
def reference() -> Any:
    return open_clip.create_model(paths.ENCODER).eval()


@pytest.mark.parametrize("text", TEXTS)
def test_texts_are_encoded_as_open_clip_does(
    encoder: ClipEncoder, reference: Any, text: str
) -> None:
    tokens = open_clip.get_tokenizer(paths.ENCODER)([text])
    with torch.inference_mode():
        expected = reference.encode_text(tokens, normalize=True).numpy()
    # One by one, so that each text is cut to its own length.
    np.testing.assert_allclose(encoder.encode_texts([text]), expected, atol=2e-5)


def test_a_small_text_tower_wakes_no_second_thread(
    encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def threads() -> int:
        with ThreadPoolExecutor(1, initializer=encoder.set_text_threads) as pool:
            return pool.submit(torch.get_num_threads).result()

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert threads() == 1
        torch.set_num_threads(2)
        monkeypatch.setattr(
            "models.retriever.clip_encoder._SMALL_TOWER", 1000
        )  # now it is a large one
        assert threads() == 2
    finally:
        torch.set_num_threads(before)


def test_pictures_are_encoded_as_open_clip_does(encoder: ClipEncoder, reference: Any) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (90, 70, 3), dtype=np.uint8)
    images = [Image.new("RGB", (80, 80), "red"), Image.fromarray(noise)]
    _, preprocess = open_clip.create_model_from_pretrained(paths.ENCODER)
    with torch.inference_mode():
        expected = reference.encode_image(
            torch.stack([preprocess(image) for image in images]), normalize=True
        ).numpy()
    np.testing.assert_allclose(encoder.encode_images(images), expected, atol=2e-5)


def test_vectors_are_float32_unit_length_and_in_order(encoder: ClipEncoder) -> None:
    vectors = encoder.encode_texts(TEXTS, batch_size=2)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), encoder.dim)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(encoder.encode_texts([text])[0], vector, atol=2e-5)
    assert encoder.encode_texts([]).shape == (0, encoder.dim)
    assert encoder.encode_images([]).shape == (0, encoder.dim)


@pytest.mark.parametrize(
    ("words", "tokens", "truncated"),
    [(74, 76, False), (75, 77, False), (76, 78, True), (300, 302, True)],
)
def test_truncation_is_told(encoder: ClipEncoder, words: int, tokens: int, truncated: bool) -> None:
    length = encoder.text_length("word " * words)
    assert length == (tokens, 77)
    assert length.truncated is truncated


def test_a_page_without_spaces_takes_no_quadratic_time(encoder: ClipEncoder) -> None:
    # Unbroken, open_clip's tokenizer needs minutes for this; the suite's timeout would catch it.
    assert encoder.text_length("中文字" * 5000).clip_tokens > 5000
    assert encoder.text_length("abcdefgh" * 2000).truncated
    assert encoder.encode_texts(["漢" * 16_000]).shape == (1, encoder.dim)


def test_precision_changes_little(encoder: ClipEncoder) -> None:
    half = ClipEncoder(paths.ENCODER, precision="bf16")
    cosines = (half.encode_texts(TEXTS) * encoder.encode_texts(TEXTS)).sum(axis=1)
    assert cosines.min() > 0.99
    assert half.fingerprint == encoder.fingerprint


def test_train_mode_is_refused(encoder: ClipEncoder) -> None:
    encoder._model.train()
    try:
        with pytest.raises(AssertionError, match="eval"):
            encoder.encode_texts(["a"])
    finally:
        encoder._model.eval()


def test_an_unknown_model_is_one_sentence() -> None:
    with pytest.raises(InputError, match="needs --pretrained"):
        ClipEncoder("ViT-B-32")
    with pytest.raises(InputError, match="open_clip has no model 'ViT-No-Such'"):
        ClipEncoder("ViT-No-Such", "openai")
    with pytest.raises(InputError, match="cannot be loaded"):
        ClipEncoder("local-dir:/no/such/folder")


def test_the_same_weights_elsewhere_are_the_same_encoder(
    encoder: ClipEncoder, tmp_path: Path
) -> None:
    for file in paths.ENCODER_DIR.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    copy = ClipEncoder(f"local-dir:{tmp_path}")
    assert copy.fingerprint.same_vectors(encoder.fingerprint)
    other = encoder.fingerprint.model_copy(update={"weights_sha256": "0"})
    assert not other.same_vectors(encoder.fingerprint)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_large_photo_has_the_vector_of_all_its_pixels(
    encoder: ClipEncoder, tmp_path: Path, kind: str
) -> None:
    """An index is built from photos that are scaled down before they are copied about."""
    noise = np.random.default_rng(0).normal(128, 45, (40, 60)).clip(0, 255).astype(np.uint8)
    photo = Image.fromarray(noise).convert("RGB").resize((3000, 2000))
    photo.save(tmp_path / "photo", kind)
    index, _ = build_index({"photo": tmp_path / "photo"}, tmp_path, encoder)
    (shown,) = read_all([tmp_path / "photo"], encoder.enough_pixels)
    assert isinstance(shown, Image.Image)
    assert min(shown.size) < 1024
    (expected,) = encoder.encode_images([photo])
    assert float(expected @ index.vector(0)) > 0.999
