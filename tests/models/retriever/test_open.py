"""One way to open an encoder and an index, whoever asks."""

from pathlib import Path

import pytest

from models.common import paths
from models.common.errors import InputError
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.retriever.open import EncoderOptions, open_encoder, open_index
from models.retriever.text_encoder import TextEncoder
from service.runtime.loading import load_retriever as served
from service.settings import Settings
from tests.support.text_corpus import minilm
from tests.support.vectors import DIM, unit_vectors
from training.retriever_settings import RetrieverSettings
from training.rewards.scorer import load_retriever as trained_with


def save(folder: Path, encoder: ClipEncoder | TextEncoder, name: str) -> Path:
    fingerprint = encoder.fingerprint.model_copy(update={"name": name})
    vectors = encoder.encode_texts(["a", "b"])
    ImageIndex.build(vectors, ["a", "b"], [{}, {}], fingerprint).save(folder)
    return folder


def test_without_a_name_it_is_the_demos_own(encoder: ClipEncoder) -> None:
    opened = open_encoder(EncoderOptions(precision="bf16"))
    assert opened.fingerprint == encoder.fingerprint


def test_the_index_names_its_encoder(tmp_path: Path, encoder: ClipEncoder) -> None:
    text_encoder = TextEncoder(minilm())
    for name, made_by in ((paths.ENCODER, encoder), (minilm(), text_encoder)):
        folder = save(tmp_path / made_by.__class__.__name__, made_by, name)
        opened, index = open_index(folder, EncoderOptions())
        assert type(opened) is type(made_by)
        assert opened.fingerprint == made_by.fingerprint
        assert len(index) == 2


def test_the_user_may_name_where_the_encoder_is_now(tmp_path: Path, encoder: ClipEncoder) -> None:
    folder = save(tmp_path / "index", encoder, "local-dir:/moved/away")
    with pytest.raises(InputError, match="cannot be loaded"):
        open_index(folder, EncoderOptions())
    opened, _ = open_index(folder, EncoderOptions(paths.ENCODER))
    assert opened.fingerprint.same_vectors(encoder.fingerprint)
    with pytest.raises(InputError, match="was built with the encoder"):
        open_index(folder, EncoderOptions(minilm()))


def test_the_demos_encoder_is_found_wherever_the_gallery_was_indexed(
    tmp_path: Path, encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPE_CACHE", str(tmp_path))
    save(paths.index_dir(), encoder, "local-dir:/another/clone/models/demo/encoder")
    opened, _ = open_index(None, EncoderOptions())
    assert opened.fingerprint == encoder.fingerprint


def test_an_index_outlives_the_clone_that_built_it(tmp_path: Path, encoder: ClipEncoder) -> None:
    name = "local-dir:/another/clone/models/demo/encoder"
    opened, _ = open_index(save(tmp_path / "own", encoder, name), EncoderOptions())
    assert opened.fingerprint == encoder.fingerprint


def test_an_index_that_is_missing_costs_no_import(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no index in"):
        open_index(tmp_path, EncoderOptions("no-such-encoder"))


@pytest.mark.heavy
def test_serving_and_training_open_the_same(tmp_path: Path) -> None:
    folder = save(tmp_path / "index", TextEncoder(minilm()), minilm())
    service = served(Settings(index=folder))
    training = trained_with(RetrieverSettings(index=folder))
    assert service.encoder.fingerprint == training.encoder.fingerprint
    assert [item.id for _, item in service.index.items.located()] == list(training.index.ids)
    service.close()


def test_vectors_without_an_encoder_open_with_none(tmp_path: Path, encoder: ClipEncoder) -> None:
    fingerprint = encoder.fingerprint.model_copy(update={"weights_sha256": "0", "dim": DIM})
    ImageIndex.build(unit_vectors(2), ["a", "b"], [{}, {}], fingerprint).save(tmp_path)
    with pytest.raises(InputError, match="was built with the encoder"):
        open_index(tmp_path, EncoderOptions())
