"""Encoders by name from the hub, against the vectors that open_clip itself gives for them."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from models.common.errors import InputError
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.manifest import EncoderFingerprint
from models.retriever.open import EncoderOptions, open_encoder, where_it_was
from tests.support.at_hub import use_hub
from tests.support.hub import Hub, running_hub
from tests.support.hub_encoders import ENCODERS, write_encoder, write_xlm_roberta

TEXTS = [
    "a small red dog",
    "A Photo of: 3 CAFÉS, really?!",
    "",
    "ein kleiner Hund 雪の中の犬 🙂",
    "word " * 70,
    "long words " * 200,
]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A hub with an encoder of each family, and the cache of a user."""
    folder = tmp_path_factory.mktemp("encoders")
    with pytest.MonkeyPatch.context() as patch, running_hub() as hub:
        use_hub(hub, folder / "cache", patch)
        tower = write_xlm_roberta(folder / "tower")
        hub.repository("xlm-roberta-base").commit(tower)
        for name, encoder in ENCODERS.items():
            made = write_encoder(folder / name, encoder, tower if name == "xlm-roberta" else None)
            hub.repository(encoder.name).commit(made)
        yield hub


@pytest.fixture(scope="module", params=ENCODERS)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def ours(filled: Hub, family: str) -> ClipEncoder:
    return ClipEncoder(f"hf-hub:{ENCODERS[family].name}")


@pytest.fixture(scope="module")
def theirs(filled: Hub, family: str) -> Any:
    """open_clip used as its documentation says: model, preprocessing, tokenizer."""
    name = f"hf-hub:{ENCODERS[family].name}"
    model, preprocess = open_clip.create_model_from_pretrained(name)
    return model.eval(), preprocess, open_clip.get_tokenizer(name)


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:12])
def test_texts_are_encoded_as_open_clip_does(ours: ClipEncoder, theirs: Any, text: str) -> None:
    model, _, tokenizer = theirs
    with torch.inference_mode():
        expected = model.encode_text(tokenizer([text]), normalize=True).numpy()
    np.testing.assert_allclose(ours.encode_texts([text]), expected, atol=2e-5)


def test_pictures_are_encoded_as_open_clip_does(ours: ClipEncoder, theirs: Any) -> None:
    model, preprocess, _ = theirs
    noise = np.random.default_rng(0).integers(0, 255, (90, 70, 3), dtype=np.uint8)
    images = [Image.new("RGB", (80, 80), "red"), Image.fromarray(noise)]
    with torch.inference_mode():
        expected = model.encode_image(torch.stack([preprocess(image) for image in images]))
    expected = torch.nn.functional.normalize(expected, dim=-1).numpy()
    np.testing.assert_allclose(ours.encode_images(images), expected, atol=2e-5)


def test_a_text_is_known_to_be_cut_where_open_clip_cuts_it(ours: ClipEncoder, theirs: Any) -> None:
    _, _, tokenizer = theirs
    assert ours.context_length == tokenizer.context_length == tokenizer(["a"]).shape[1]
    words = ["dog"] * ours.context_length
    while ours.text_length(" ".join(words)).truncated:
        words.pop()
    fits, cut = " ".join(words), " ".join([*words, "dog", "snow"])
    assert words
    assert ours.text_length(cut).truncated
    assert not torch.equal(tokenizer([fits]), tokenizer([" ".join(words[:-1])]))


def test_texts_together_have_the_vectors_that_they_have_alone(ours: ClipEncoder) -> None:
    together = ours.encode_texts(TEXTS)
    alone = np.concatenate([ours.encode_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=2e-5)
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)


def test_the_commit_is_recorded_and_opened_again(filled: Hub, ours: ClipEncoder) -> None:
    found = ours.fingerprint
    repository = filled.find("models", found.name.removeprefix("hf-hub:"))
    assert repository
    assert found.revision == repository.names["main"]
    name, tag = where_it_was(found)
    assert (name, tag) == (f"{found.name}@{found.revision}", None)
    filled.asked.clear()
    again = open_encoder(EncoderOptions(name))
    assert again.fingerprint == found
    asked = {path for _, path, _ in filled.asked if repository.name in path}
    assert asked == set()


def test_the_same_words_in_capitals_are_the_same_for_siglip(filled: Hub) -> None:
    encoder = ClipEncoder(f"hf-hub:{ENCODERS['siglip2'].name}")
    said, shouted = encoder.encode_texts(["a small red dog", "A small, RED dog!"])
    np.testing.assert_allclose(said, shouted, atol=1e-6)
    assert encoder.text_length("a b").limit == 64


def test_quick_gelu_makes_another_encoder(filled: Hub, tmp_path: Path) -> None:
    """The weights are the same, and the vectors are not."""
    family = ENCODERS["vit-l-14-quickgelu"]
    quick = ClipEncoder(f"hf-hub:{family.name}").fingerprint
    config = {**family.config, "quick_gelu": False}
    folder = write_encoder(tmp_path / "gelu", family._replace(config=config))
    exact = ClipEncoder(f"local-dir:{folder}").fingerprint
    assert quick.weights_sha256 == exact.weights_sha256
    assert (quick.quick_gelu, exact.quick_gelu) == (True, False)
    assert not quick.same_vectors(exact)
    old = EncoderFingerprint(**quick.model_dump(exclude={"quick_gelu", "revision"}))
    assert old.same_vectors(quick)
    assert old.same_vectors(exact)  # an index of before cannot tell


def small(monkeypatch: pytest.MonkeyPatch, name: str, family: str) -> None:
    """Makes open_clip's own model of a name as small as the hub's."""
    config = copy.deepcopy(ENCODERS[family].config)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, config)


@pytest.mark.parametrize(
    ("name", "tag", "family"),
    [
        ("ViT-B-32", "laion2b_s34b_b79k", "vit-b-32"),
        ("ViT-L-14-quickgelu", "openai", "vit-l-14-quickgelu"),
        ("ViT-B-32-SigLIP2-256", "webli", "siglip2"),
        ("MobileCLIP2-S0", "dfndr2b", "mobileclip2"),
        ("xlm-roberta-base-ViT-B-32", "laion5b_s13b_b90k", "xlm-roberta"),
    ],
)
def test_a_tag_is_a_repository_with_open_clips_own_preprocessing(
    filled: Hub, monkeypatch: pytest.MonkeyPatch, name: str, tag: str, family: str
) -> None:
    small(monkeypatch, name, family)
    commit = filled.repository(ENCODERS[family].name).names["main"]
    encoder = ClipEncoder(name, f"{tag}@{commit}")
    told = encoder.fingerprint
    assert (told.name, told.pretrained, told.revision) == (name, tag, commit)
    model, preprocess = open_clip.create_model_from_pretrained(name, tag)
    assert str(preprocess) == str(encoder._preprocess)
    model.eval()
    with torch.inference_mode():
        tokens = open_clip.get_tokenizer(name)(TEXTS)
        expected = model.encode_text(tokens, normalize=True).numpy()
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "tag", "told"),
    [
        ("ViT-B-23", "openai", "open_clip has no model 'ViT-B-23': did you mean ViT-B-32"),
        ("ViT-B-32", "laion2b", "has no weights 'laion2b': did you mean laion2b_"),
        ("ViT-B-32", "openai", "whose activation is another one: name it ViT-B-32-quickgelu."),
        ("ViT-L-14-quickgelu", "x", "has no weights 'x': it has openai, metaclip_400m"),
        ("hf-hub:someone/text-only", None, "has no open_clip_config.json, so that it is no model"),
        ("hf-hub:someone/nothing", None, "has no someone/nothing: look at the name"),
        ("hf-hub:xlm-roberta-base@v2", None, "has no revision 'v2'"),
    ],
)
def test_what_cannot_be_loaded_is_one_sentence(
    filled: Hub, name: str, tag: str | None, told: str
) -> None:
    filled.repository("someone/text-only").commit({"config.json": b"{}"})
    with pytest.raises(InputError) as refused:
        ClipEncoder(name, tag)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
