"""Queries as people type them: one form for gate, cache and model, and honest answers."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.rewriter.protocol import Completion, Completions, Prompt
from tests.support.app import FakeRewriter, Start


async def search(client: httpx.AsyncClient, query: str, **body: object) -> dict[str, Any]:
    response = await client.post("/search", json={"query": query, **body})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_one_form_is_searched_and_what_was_typed_is_echoed(
    client: httpx.AsyncClient, rewriter: FakeRewriter
) -> None:
    rewriter.answers["ein rotes bild"] = " a red square"
    rewriter.calls.clear()
    plain = await search(client, "ein rotes bild")
    for typed in ("EIN ROTES BILD", "ｅｉｎ ｒｏｔｅｓ ｂｉｌｄ", "ein\u200b ro\u00adtes\nbild"):
        found = await search(client, typed)
        assert found["query"] == typed
        assert (found["rewrite"], found["hits"]) == (plain["rewrite"], plain["hits"])
    assert [query for query, _ in rewriter.calls] == ["ein rotes bild"], "the rewrite was kept"
    answer = await client.post("/rewrite", json={"query": "EIN ROTES BILD"})
    (result,) = answer.json()["results"]
    assert (result["query"], result["rewrites"][0]["text"]) == ("EIN ROTES BILD", "a red square")


async def test_what_holds_no_words_says_so(
    client: httpx.AsyncClient, rewriter: FakeRewriter
) -> None:
    rewriter.calls.clear()
    for typed in ("...", "???", "\u200b", "?!\u200d"):
        for rewrite in ("auto", "always"):
            found = await search(client, typed, rewrite=rewrite)
            assert found["rewrite"]["status"] == "kept"
            assert found["rewrite"]["reason"] == "it has no letters or digits"
            assert found["confident"] is False
        answer = (await client.post("/rewrite", json={"query": typed})).json()
        assert answer["results"][0]["status"] == "kept"
    assert rewriter.calls == []
    assert "no letters" not in (await search(client, "24"))["rewrite"]["reason"]


async def test_the_picture_of_an_emoji_comes_first(
    small_index: Path, tmp_path: Path, encoder: ClipEncoder, start: Start
) -> None:
    squares = ImageIndex.open(small_index, encoder.fingerprint)
    records = [dict(record) for record in squares.metadata]
    blue = squares.ids.index("blue.png")
    records[blue]["emoji"] = "\u2764\ufe0f"
    records[0]["tags"] = ["\u2605"]
    index = ImageIndex.build(squares.vectors(), squares.ids, records, encoder.fingerprint)
    index.save(tmp_path / "index")
    client = await start(index=tmp_path / "index")
    for typed in ("\u2764", " \u2764\ufe0f "):
        found = await search(client, typed, k=2)
        hits = found["hits"]
        assert found["rewrite"]["texts"] == ["red heart"]
        assert [hit["id"] for hit in hits] == ["blue.png", "red.png"]
        assert found["confident"]
    (hit,) = (await search(client, "\u2605", k=1))["hits"]
    assert hit["id"] == squares.ids[0]
    (hit,) = (await search(client, "red \u2764", k=1))["hits"]
    assert hit["id"] == "red.png", "not the only thing that was typed"


async def test_what_is_not_wanted_comes_last(
    client: httpx.AsyncClient, rewriter: FakeRewriter
) -> None:
    rewriter.answers |= {
        "kein rotes Bild": " a red square", "rotes Bild": " a red square",
        "ein Bild ohne Rot": " a square without red", "ein Bild": " a square", "Rot": " red",
    }  # fmt: skip
    for query in ("kein rotes Bild", "ein Bild ohne Rot"):
        found = await search(client, query, k=5)
        ids = [hit["id"] for hit in found["hits"]]
        assert len(ids) == 5
        assert ids[-1] == "red.png"
        assert all(-1 <= hit["cosine"] <= 1 for hit in found["hits"])
        assert found["hits"][-1]["score"] == 0
        assert "come last" in found["rewrite"]["reason"]
    never = await search(client, "kein rotes Bild", rewrite="never")
    assert never["rewrite"]["reason"] == "not requested"
    only = await search(client, "kein rotes Bild", k=5, compare=True)
    assert not only["confident"]
    assert len(only["original_hits"]) == 5


async def test_whatever_the_unwanted_thing_may_be_comes_last(
    client: httpx.AsyncClient, rewriter: FakeRewriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best guess of a small model is often wrong: here that "Rot" is black."""
    written = {"Rot": {"a black square": 0.3, "a red square": 0.2}}

    async def complete(prompt: Prompt, *_: object) -> Completions:
        answers = written.get(prompt.query, {"a green square": 0.9})
        return Completions([Completion(text, p) for text, p in answers.items()])

    monkeypatch.setattr(rewriter, "complete", complete)
    found = await search(client, "kein Rot", k=5, rewrite="always", n=4)
    assert {hit["id"] for hit in found["hits"][-2:]} == {"black.png", "red.png"}
    assert [hit["score"] for hit in found["hits"][-2:]] == [0, 0]


async def test_what_another_rewrite_says_is_missing_comes_last_too(
    client: httpx.AsyncClient, rewriter: FakeRewriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best rewrite leaves the negation out, and "Rot" alone is misunderstood."""
    written = {
        "ein Quadrat ohne Rot": {"red squares": 0.5, "a square without red": 0.3},
        "Rot": {"a black square": 0.5},
        "ein Quadrat": {"a square": 0.9},
    }

    async def complete(prompt: Prompt, *_: object) -> Completions:
        return Completions([Completion(text, p) for text, p in written[prompt.query].items()])

    monkeypatch.setattr(rewriter, "complete", complete)
    found = await search(client, "ein Quadrat ohne Rot", k=5, n=4)
    assert found["rewrite"]["texts"] == ["a square"]
    assert "red.png" in {hit["id"] for hit in found["hits"] if hit["score"] == 0}
