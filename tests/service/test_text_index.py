"""An index of texts, made with a sentence-transformers encoder, served like one of pictures."""

import asyncio
import base64
import io
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from PIL import Image

from models.client.wire import ErrorType
from models.retriever.image_index import ImageIndex
from models.retriever.text_encoder import TextEncoder
from service.runtime.in_process import answer_here
from service.settings import Settings
from tests.support.app import FakeRewriter
from tests.support.text_corpus import minilm

TEXTS = {
    "doc-1": "A recipe for bread with sunflower seeds",
    "doc-2": "How to tune a guitar with a fork",
    "doc-3": "The dog sleeps under the kitchen table",
}


@pytest.fixture(scope="module")
def text_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    encoder = TextEncoder(minilm())
    vectors = encoder.encode_texts(TEXTS.values())
    records = [{"text": text} for text in TEXTS.values()]
    folder = tmp_path_factory.mktemp("texts") / "index"
    ImageIndex.build(vectors, list(TEXTS), records, encoder.fingerprint).save(folder)
    return folder


@pytest.fixture
async def client(start: Callable[..., object], text_index: Path) -> httpx.AsyncClient:
    begun = await start(index=text_index)  # type: ignore[misc]
    assert isinstance(begun, httpx.AsyncClient)
    return begun


async def test_the_hit_is_its_metadata(client: httpx.AsyncClient) -> None:
    body = {"query": "a sleeping animal", "rewrite": "never", "k": 2}
    response = await client.post("/search", json=body)
    assert response.status_code == 200, response.text
    answer = response.json()
    best, second = answer["hits"]
    assert best["id"] == "doc-3"
    assert best["metadata"] == {"text": TEXTS["doc-3"]}
    assert best["url"] is None
    assert best["score"] > second["score"]
    assert answer["rewrite"]["clip_tokens"] == [5]


async def test_a_query_is_rewritten(client: httpx.AsyncClient, rewriter: FakeRewriter) -> None:
    rewriter.answers["brot backen"] = "baking bread"
    answer = (await client.post("/search", json={"query": "brot backen"})).json()
    assert answer["rewrite"]["texts"] == ["baking bread"]
    assert answer["hits"][0]["id"] == "doc-1"


async def test_an_index_of_texts_has_texts_like_another(client: httpx.AsyncClient) -> None:
    body = {"image_id": "doc-2", "k": 3, "with_reference": True}
    answer = (await client.post("/search", json=body)).json()
    assert answer["hits"][0]["id"] == "doc-2"
    assert len(answer["hits"]) == 3


async def test_many_long_queries_at_once(client: httpx.AsyncClient) -> None:
    """Tokens are counted in one thread while another one encodes with the same tokenizer."""
    said = "The musician walks along river {} and thinks about the strings."
    long = " ".join(said.format(number) for number in range(60))
    bodies = [{"query": f"{number} {long}", "rewrite": "never"} for number in range(8)]
    answers = await asyncio.gather(*(client.post("/search", json=body) for body in bodies))
    assert [answer.status_code for answer in answers] == [200] * len(bodies)
    assert all(answer.json()["rewrite"]["parts"] > 1 for answer in answers)


@pytest.mark.parametrize("query", [None, "but red"])
async def test_a_picture_is_refused_with_one_sentence(
    client: httpx.AsyncClient, query: str | None
) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(picture, "PNG")
    encoded = base64.b64encode(picture.getvalue()).decode()
    response = await client.post("/search", json={"query": query, "image": encoded})
    assert response.status_code == 422
    assert response.json()["error_type"] == ErrorType.VALIDATION
    assert response.json()["error"] == (
        "The encoder of this index reads texts only: search with a query and without an image."
    )


async def test_info_names_the_encoder_and_its_limit(client: httpx.AsyncClient) -> None:
    info = (await client.get("/info")).json()
    assert info["index"]["encoder"]["name"].startswith("sentence-transformers:")
    assert info["clip_token_limit"] == 256


async def test_the_shell_searches_it_too(text_index: Path) -> None:
    body = {"query": "a sleeping animal", "k": 1, "rewrite": "never", "fusion": "auto", "n": "auto"}
    answer = await answer_here("/search", body, Settings(index=text_index, encoder=minilm()))
    assert answer["hits"][0]["metadata"] == {"text": TEXTS["doc-3"]}
