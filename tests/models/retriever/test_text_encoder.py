"""A corpus of texts: the encoder, and the same evaluation on top of it."""

from pathlib import Path

import numpy as np
import pytest

from models.common.errors import InputError
from models.retriever.image_index import ImageIndex
from models.retriever.text_encoder import PREFIX, TextEncoder
from tests.support.text_corpus import corpus_index, documents, minilm
from training.evaluation.queries import OTHER_LANGUAGES, SHORT_ENGLISH
from training.evaluation.run import evaluate
from training.evaluation.settings import EvalSettings


@pytest.fixture(scope="module")
def text_encoder() -> TextEncoder:
    return TextEncoder(minilm())


def test_vectors_are_of_length_one_and_say_what_is_alike(text_encoder: TextEncoder) -> None:
    vectors = text_encoder.encode_texts(["a guitar", "an instrument with strings", "a wet dog"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.1
    assert text_encoder.encode_texts([]).shape == (0, 384)


def test_what_is_cut_is_told(text_encoder: TextEncoder) -> None:
    assert text_encoder.text_length("guitar") == (3, 256)
    assert text_encoder.text_length("guitar " * 400).truncated


def test_no_such_model_is_one_sentence() -> None:
    with pytest.raises(InputError, match="neither a folder nor a name on the hub"):
        TextEncoder(f"{PREFIX}/no/such/folder")


def test_the_evaluation_runs_on_texts(tmp_path: Path, text_encoder: TextEncoder) -> None:
    folder = corpus_index(tmp_path / "corpus")
    assert len(ImageIndex.open(folder, text_encoder.fingerprint)) == len(documents())
    results = evaluate(
        EvalSettings(index=folder, systems=["direct", "oracle"], limit=20, work=tmp_path / "work")
    )
    direct, oracle = (system.metrics for system in results.systems)
    assert direct[SHORT_ENGLISH]["R@10"].value > 0.8
    assert oracle[OTHER_LANGUAGES]["R@10"].value > 0.95
    assert direct[OTHER_LANGUAGES]["R@10"].value < 0.5
