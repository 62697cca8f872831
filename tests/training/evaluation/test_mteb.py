"""The model for mteb against a server that tests steer: what it asks, searches and refuses.

tests/e2e/test_mteb.py has mteb's own evaluation, with everything real.
"""

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
from datasets import Dataset
from PIL import Image, ImageDraw

from models.common.errors import InputError
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.types import Vectors
from tests.support.fake_grape_server import TAU, fake_server
from training.evaluation.mteb import ServedModel

QUIET = {"show_progress_bar": False}


@pytest.fixture
def server(encoder: ClipEncoder) -> Iterator[SimpleNamespace]:
    with fake_server(encoder) as running:
        yield running


def about(category: str) -> Any:
    """A task's metadata; mteb's own class asks for a citation and much else."""
    sides = {"t": ["text"], "i": ["image"], "it": ["image", "text"]}
    query, document = (sides[side] for side in category.split("2"))
    return SimpleNamespace(
        name="Some", get_modalities=lambda side: query if side == "query" else document
    )


TEXTS = ["red apple", "guitar", "bicycle", "elephant", "snowman", "clock"]


def text_corpus() -> Dataset:
    return Dataset.from_list([{"id": text, "text": text, "title": ""} for text in TEXTS])


def asked(*texts: str, **columns: list[str]) -> Dataset:
    return Dataset.from_dict({"id": [f"q {text}" for text in texts], "text": texts, **columns})


def run(
    model: ServedModel,
    queries: Dataset,
    corpus: Dataset | None = None,
    category: str = "t2t",
    top_k: int = 3,
    top_ranked: dict[str, list[str]] | None = None,
) -> dict[str, dict[str, float]]:
    """Both calls as mteb's RetrievalEvaluator makes them."""
    given: dict[str, Any] = {
        "task_metadata": about(category), "hf_split": "test", "hf_subset": "default",
        "encode_kwargs": QUIET, "num_proc": None,
    }  # fmt: skip
    model.index(text_corpus() if corpus is None else corpus, **given)
    return model.search(queries, top_k=top_k, top_ranked=top_ranked, **given)


def order(found: dict[str, float]) -> list[str]:
    return sorted(found, key=lambda picture: -found[picture])


def test_it_is_what_mteb_takes(server: SimpleNamespace, encoder: ClipEncoder) -> None:
    from mteb import EncoderProtocol, SearchProtocol
    from mteb.models import CrossEncoderProtocol

    model = ServedModel(server.url, encoder)
    assert isinstance(model, SearchProtocol)
    # mteb asks for these first, and would search by itself.
    assert not isinstance(model, EncoderProtocol | CrossEncoderProtocol)


def test_the_rewrite_is_searched_and_not_the_query(
    server: SimpleNamespace, encoder: ClipEncoder
) -> None:
    server.fake.rewrites = {"Gitarre": ["guitar"], "Uhr": ["clock"]}
    found = run(ServedModel(server.url, encoder), asked("Gitarre", "Uhr", "bicycle", "snowman"))
    first = [order(found[f"q {text}"])[0] for text in ("Gitarre", "Uhr", "bicycle", "snowman")]
    assert first == ["guitar", "clock", "bicycle", "snowman"]
    assert all(len(scores) == 3 for scores in found.values())
    assert max(found["q Gitarre"], key=found["q Gitarre"].__getitem__) == "guitar"
    # In requests of no more than the server takes, with its own way of rewriting.
    assert [len(body["query"]) for body in server.fake.searches] == [3, 1]
    assert {body["rewrite"] for body in server.fake.searches} == {"auto"}


def test_the_parts_of_a_long_query_are_one_search(
    server: SimpleNamespace, encoder: ClipEncoder
) -> None:
    server.fake.rewrites, server.fake.parts = {"long": ["clock", "elephant"]}, 2
    found = run(ServedModel(server.url, encoder), asked("long"), top_k=6)["q long"]
    vector = encoder.encode_texts(["clock", "elephant"]).mean(axis=0)
    expected = softmax(encoder.encode_texts(TEXTS) @ (vector / np.linalg.norm(vector)))
    assert [found[text] for text in TEXTS] == pytest.approx(expected.tolist(), abs=1e-5)


def softmax(cosines: Vectors) -> Vectors:
    shares = np.exp(cosines / TAU)
    normalised: Vectors = shares / shares.sum()
    return normalised


def test_never_asks_nothing(server: SimpleNamespace, encoder: ClipEncoder) -> None:
    server.fake.rewrites = {"Uhr": ["clock"]}
    found = run(ServedModel(server.url, encoder, rewrite="never"), asked("Uhr"))
    direct = encoder.encode_texts(["Uhr"]) @ encoder.encode_texts(TEXTS).T
    assert order(found["q Uhr"])[0] == TEXTS[int(direct.argmax())]
    assert server.fake.searches == []


def test_fusions_are_those_of_the_server(server: SimpleNamespace, encoder: ClipEncoder) -> None:
    server.fake.rewrites = {"guitar": ["clock", "elephant"]}
    rrf = run(ServedModel(server.url, encoder, fusion="rrf", n=2), asked("guitar"), top_k=6)
    lists = encoder.encode_texts(["guitar", "clock", "elephant"]) @ encoder.encode_texts(TEXTS).T
    places = (-lists).argsort(axis=1).argsort(axis=1) + 1
    expected = (1 / (60 + places)).sum(axis=0)
    assert [rrf["q guitar"][text] for text in TEXTS] == pytest.approx(expected.tolist())
    assert server.fake.searches[-1]["n"] == 2

    server.fake.info["fusion"] = "mean"
    mean = run(ServedModel(server.url, encoder), asked("guitar"), top_k=6)
    vector = encoder.encode_texts(["guitar", "clock", "elephant"]).mean(axis=0)
    scores = softmax(encoder.encode_texts(TEXTS) @ (vector / np.linalg.norm(vector)))
    assert [mean["q guitar"][text] for text in TEXTS] == pytest.approx(scores.tolist(), abs=1e-5)

    server.fake.info["fusion"] = "mixture"
    mixed = run(ServedModel(server.url, encoder), asked("guitar"), top_k=6)
    each = [softmax(cosines) for cosines in lists[1:]]
    assert [mixed["q guitar"][text] for text in TEXTS] == pytest.approx(
        np.mean(each, axis=0).tolist(), abs=1e-5
    )


def test_reranking_puts_the_given_documents_in_order(
    server: SimpleNamespace, encoder: ClipEncoder
) -> None:
    found = run(
        ServedModel(server.url, encoder), asked("guitar", "clock"), top_k=2,
        top_ranked={"q guitar": ["clock", "guitar", "elephant"], "q clock": ["snowman"]},
    )  # fmt: skip
    assert order(found["q guitar"])[0] == "guitar"
    assert len(found["q guitar"]) == 2
    assert set(found["q guitar"]) < {"clock", "guitar", "elephant"}
    assert list(found["q clock"]) == ["snowman"]


def test_texts_are_read_as_mteb_gives_them(server: SimpleNamespace, encoder: ClipEncoder) -> None:
    corpus = Dataset.from_list(
        [{"id": "1", "title": "red", "text": "apple"}, {"id": "2", "title": None, "text": "clock"}]
    )
    queries = asked("red", instruction=["apple"])
    found = run(ServedModel(server.url, encoder), queries, corpus)
    assert found["q red"]["1"] == pytest.approx(1, abs=1e-3)
    assert server.fake.searches[0]["query"] == ["red apple"]


def test_pictures_are_opened_as_an_index_opens_them(
    server: SimpleNamespace, encoder: ClipEncoder
) -> None:
    """A transparent ground is white; RGB as Pillow converts it would be black here."""
    clear = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    ImageDraw.Draw(clear).ellipse((8, 8, 56, 56), fill=(255, 0, 0, 255))
    white = Image.new("RGB", (64, 64), "white")
    white.paste(clear, mask=clear)
    corpus = Dataset.from_dict({"id": ["clear", "white"], "image": [clear, white]})
    scores = run(ServedModel(server.url, encoder), asked("circle"), corpus, "t2i")["q circle"]
    assert scores["clear"] == pytest.approx(scores["white"], abs=1e-6)
    broken = corpus.cast_column("image", datasets.Image(decode=False))
    broken = broken.map(lambda row: {"image": {"bytes": b"no picture", "path": None}})
    with pytest.raises(InputError, match="picture 'clear' cannot be read: not a JPEG"):
        run(ServedModel(server.url, encoder), asked("circle"), broken, "t2i")


@pytest.mark.parametrize(
    ("category", "sentence"),
    [
        ("i2t", "each query of it is image and not text"),
        ("t2it", "each document of it is image and text and not image or text"),
    ],
)
def test_other_tasks_are_refused(
    server: SimpleNamespace, encoder: ClipEncoder, category: str, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        run(ServedModel(server.url, encoder), asked("clock"), category=category)


def test_conversations_are_refused(server: SimpleNamespace, encoder: ClipEncoder) -> None:
    turns = Dataset.from_dict({"id": ["q"], "text": [[{"role": "user", "content": "clock"}]]})
    with pytest.raises(InputError, match="conversation"):
        run(ServedModel(server.url, encoder), turns)


def test_failed_rewrites_are_told(
    server: SimpleNamespace, encoder: ClipEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    server.fake.rewrites = {"Uhr": []}
    run(ServedModel(server.url, encoder), asked("Uhr", "clock"))
    assert capsys.readouterr().err == "1 of 2 queries were searched as typed: because.\n"


def test_a_language_model_that_dies_ends_the_measurement(
    server: SimpleNamespace, encoder: ClipEncoder
) -> None:
    model = ServedModel(server.url, encoder)
    server.fake.rewrites, server.fake.not_ready = {"Uhr": []}, "the engine has died"
    with pytest.raises(InputError, match=r"is not ready \(the engine has died\)"):
        run(model, asked("Uhr"))


def test_another_configuration_is_another_model_to_mteb(
    server: SimpleNamespace, encoder: ClipEncoder
) -> None:
    """mteb does not ask again what it has results of."""
    from mteb.models import ModelMeta

    def meta(**wishes: Any) -> ModelMeta:
        return ServedModel(server.url, encoder, **wishes).mteb_model_meta

    first = meta()
    assert first.name == "grape/some-model"
    assert meta() == first
    assert ModelMeta.model_validate(first.model_dump()) == first
    folders = {meta(**wishes).experiment_name for wishes in (
        {}, {"rewrite": "always"}, {"fusion": "rrf"}, {"n": 4})}  # fmt: skip
    assert len(folders) == 4
    server.fake.info["adapter"] = "long-multilingual-abc"
    assert meta().name == "grape/long-multilingual-abc"
    server.fake.info |= {"adapter": None, "versions": {"grape": "0.2.0"}}
    assert meta().name == first.name
    assert meta().revision != first.revision


def test_another_encoder_is_refused(server: SimpleNamespace, encoder: ClipEncoder) -> None:
    server.fake.info["index"]["encoder"]["weights_sha256"] = "f" * 64
    with pytest.raises(InputError, match=r"has the encoder .*weights ffffffffffff and would be"):
        ServedModel(server.url, encoder)


def test_without_mteb_there_is_a_sentence(
    server: SimpleNamespace, encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mteb.models.model_meta", None)
    with pytest.raises(InputError, match="install the extra 'mteb'"):
        ServedModel(server.url, encoder)
