"""Searches that start from a picture, over the real encoder and index; the rewriter is a fake."""

import base64
import io
import math
from collections import defaultdict

import httpx
import pytest
from PIL import Image

from models.client.wire import ErrorBody, ErrorType, RewriteResponse, SearchHit, SearchResult
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.rewriter.protocol import Completions, Prompt
from models.rewriter.tasks import COMPOSED, composed_query, parse_rewrite
from models.search.mixture import Mixture
from tests.models.retriever.test_pictures import png_of_size
from tests.support.app import FakeRewriter, Start
from tests.support.completions import completions


def picture(colour: str, kind: str = "PNG", size: tuple[int, int] = (64, 64)) -> str:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, kind)
    return base64.b64encode(out.getvalue()).decode()


async def search(client: httpx.AsyncClient, **body: object) -> SearchResult:
    response = await client.post("/search", json=body)
    assert response.status_code == 200, response.text
    return SearchResult.model_validate_json(response.text, strict=True)


async def problem(client: httpx.AsyncClient, status: int, kind: ErrorType, **body: object) -> str:
    response = await client.post("/search", json=body)
    assert response.status_code == status, response.text
    found = ErrorBody.model_validate(response.json())
    assert found.error_type == kind
    return found.error


async def test_a_picture_of_the_index_finds_the_others(client: httpx.AsyncClient) -> None:
    result = await search(client, image_id="red.png")
    assert (result.query, result.rewrite.texts, result.rewrite.clip_tokens) == (None, [], [])
    assert (result.rewrite.status, result.rewrite.reason) == ("kept", "a picture without words")
    assert len(result.hits) == 4
    assert "red.png" not in [hit.id for hit in result.hits]
    assert [hit.rank for hit in result.hits] == [1, 2, 3, 4]
    assert all(hit.found_by == ["picture"] for hit in result.hits)
    whole = await search(client, image_id="red.png", with_reference=True, k=2)
    assert whole.hits[0].id == "red.png"
    assert whole.hits[0].cosine == pytest.approx(1, abs=1e-5)
    assert len((await search(client, image_id="red.png", k=2)).hits) == 2


@pytest.mark.parametrize("as_uri", [True, False])
async def test_an_uploaded_picture_is_recognised_and_left_out(
    client: httpx.AsyncClient, as_uri: bool
) -> None:
    sent = ("data:image/webp;base64," if as_uri else "") + picture("green", "WEBP")
    result = await search(client, image=sent)
    same = await search(client, image_id="green.png")
    assert [hit.id for hit in result.hits] == [hit.id for hit in same.hits]
    assert (await search(client, image=sent, with_reference=True)).hits[0].id == "green.png"


async def test_words_beside_a_picture_say_what_changes(
    client: httpx.AsyncClient, rewriter: FakeRewriter
) -> None:
    rewriter.answers["red / aber blau"] = " a blue square"
    result = await search(client, image_id="red.png", query="aber blau", compare=True)
    assert result.rewrite.status == "rewritten"
    assert result.rewrite.reason == "a picture to be changed: red"
    assert result.rewrite.texts == ["a blue square"]
    alone = await search(client, query="a blue square", rewrite="never", k=5)
    rewrite = [hit for hit in alone.hits if hit.id != "red.png"]
    like = (await search(client, image_id="red.png")).hits
    assert result.rewrite.fusion == "mixture"
    share = Mixture().reference
    expected = mixed({1 - share: rewrite, share: like}, result.rewrite.tau)
    assert {hit.id: hit.score for hit in result.hits} == pytest.approx(expected, abs=1e-4)
    assert [hit.id for hit in result.hits] == sorted(expected, key=lambda name: -expected[name])
    assert result.hits[0].found_by == ["rewrite 1"]
    asked = {"image_id": "red.png", "query": "aber blau", "fusion": "interleave"}
    turns = await search(client, **asked)
    assert in_turns(rewrite, like) == [(hit.id, hit.cosine) for hit in turns.hits]
    assert turns.hits[0].found_by == ["rewrite 1", "picture"]
    only = await search(client, image_id="red.png", query="aber blau", fusion="rewrite")
    assert [hit.id for hit in only.hits] == [hit.id for hit in rewrite]
    assert result.original_hits
    assert result.original_hits[0].found_by == ["picture + query"]
    assert "red.png" not in [hit.id for hit in result.original_hits]
    # Uploaded, it is called what looks most like it is called.
    again = await search(client, image=picture("red"), query="aber blau")
    assert again.hits == result.hits
    fused = await search(client, image_id="red.png", query="aber blau", fusion="rrf")
    assert fused.hits[0].found_by == ["picture + query", "rewrite 1"]


def mixed(found: dict[float, list[SearchHit]], tau: float) -> dict[str, float]:
    """Every picture's probability, given what each search found, by its weight."""
    total: dict[str, float] = defaultdict(float)
    for weight, hits in found.items():
        shares = {hit.id: math.exp(hit.cosine / tau) for hit in hits}
        for name, share in shares.items():
            total[name] += weight * share / sum(shares.values())
    return total


def in_turns(one: list[SearchHit], other: list[SearchHit]) -> list[tuple[str, float]]:
    pairs = [hit for pair in zip(one, other, strict=True) for hit in pair]
    taken: dict[str, float] = {}
    for hit in pairs:
        taken.setdefault(hit.id, hit.cosine)
    return list(taken.items())


async def test_english_words_are_searched_with_their_rewrite(
    client: httpx.AsyncClient, rewriter: FakeRewriter
) -> None:
    # Which leaves the change out.
    rewriter.answers |= dict.fromkeys(["red / but a blue square", "red / blue"], " a green square")
    change = "but a blue square"
    result = await search(client, image_id="red.png", query=change, k=4)
    assert result.rewrite.texts == ["a green square", "a blue square"]
    assert result.rewrite.parts == 1
    lists = [
        [hit for hit in (await search(client, query=text, rewrite="never", k=5)).hits
         if hit.id != "red.png"]
        for text in result.rewrite.texts
    ]  # fmt: skip
    share = Mixture().change
    expected = mixed({1 - share: lists[0], share: lists[1]}, result.rewrite.tau)
    assert {hit.id: hit.score for hit in result.hits} == pytest.approx(expected, abs=1e-4)
    turns = await search(client, image_id="red.png", query=change, k=4, fusion="interleave")
    assert in_turns(*lists) == [(hit.id, hit.cosine) for hit in turns.hits]
    first = await search(client, image_id="red.png", query=change, k=1, fusion="interleave")
    assert [hit.id for hit in first.hits] == [lists[0][0].id]
    # Words that the encoder does not know as a query are left to the rewrite.
    unknown = await search(client, image_id="red.png", query="blue", fusion="interleave")
    assert unknown.rewrite.texts == ["a green square"]
    assert {source for hit in unknown.hits for source in hit.found_by} == {"rewrite 1", "picture"}


async def test_english_words_join_a_rewrite_that_leaves_them_out(
    client: httpx.AsyncClient, rewriter: FakeRewriter, encoder: ClipEncoder
) -> None:
    rewriter.answers |= {"red / but green": " Red", "red / without the red": " red"}
    left_out = await search(client, image_id="red.png", query="but green", k=1)
    assert left_out.rewrite.texts == ["Red", "green"]
    both = encoder.encode_texts(["Red", "green"]).mean(0)
    pictures = {c: encoder.encode_images([Image.new("RGB", (64, 64), c)])[0]
                for c in ("green", "blue", "yellow", "black")}  # fmt: skip
    nearest = max(pictures, key=lambda colour: float(pictures[colour] @ both))
    assert [hit.id for hit in left_out.hits] == [f"{nearest}.png"]
    # To the encoder "without the red" is red.
    asked = {"image_id": "red.png", "query": "without the red", "fusion": "interleave"}
    negated = await search(client, **asked)
    assert negated.rewrite.texts == ["red"]
    assert "picture" in negated.hits[1].found_by


async def test_what_was_typed_can_be_taken_in_turns_too(
    client: httpx.AsyncClient, rewriter: FakeRewriter
) -> None:
    typed = await search(client, query="blue", rewrite="never", k=5)
    rewriter.answers["blue"] = " a green square"
    both = await search(client, query="blue", rewrite="always", fusion="interleave", k=5)
    green = await search(client, query="a green square", rewrite="never", k=5)
    assert in_turns(green.hits, typed.hits) == [(hit.id, hit.cosine) for hit in both.hits]
    rewriter.answers["black"] = " black"
    same = await search(client, query="black", rewrite="always", fusion="interleave", k=5)
    assert [hit.found_by for hit in same.hits] == [["query"]] * 5


async def test_without_rewriting_it_is_the_mean_of_both(
    client: httpx.AsyncClient, encoder: ClipEncoder
) -> None:
    never = await search(client, image_id="red.png", query="blue", rewrite="never")
    vectors = encoder.encode_images([Image.new("RGB", (64, 64), "red")])[0]
    both = vectors + encoder.encode_texts(["blue"])[0]
    pictures = {c: encoder.encode_images([Image.new("RGB", (64, 64), c)])[0]
                for c in ("green", "blue", "yellow", "black")}  # fmt: skip
    order = sorted(pictures, key=lambda colour: -float(pictures[colour] @ both))
    assert [hit.id for hit in never.hits] == [f"{colour}.png" for colour in order]
    assert never.rewrite.texts == ["blue"]


async def test_a_failed_rewrite_falls_back_to_it(
    client: httpx.AsyncClient, rewriter: FakeRewriter
) -> None:
    never = await search(client, image_id="red.png", query="blue", rewrite="never")
    rewriter.answers["red / blue"] = " !!"
    fallen = await search(client, image_id="red.png", query="blue")
    assert (fallen.rewrite.status, fallen.degraded) == ("fallback", True)
    assert fallen.hits == never.hits


async def test_a_model_that_sees_pictures_is_shown_the_picture(
    client: httpx.AsyncClient, rewriter: FakeRewriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Prompt] = []

    async def complete(prompt: Prompt, *_: object) -> Completions:
        shown.append(prompt)
        return completions(" a blue square")

    monkeypatch.setattr(rewriter, "sees_pictures", True, raising=False)
    monkeypatch.setattr(rewriter, "complete", complete)
    for body in ({"image_id": "red.png"}, {"image": picture("red")}):
        result = await search(client, query="but blue", **body)
        assert result.rewrite.texts == ["a blue square"]
        prompt = shown[-1]
        assert (prompt.task.name, prompt.query) == ("composed", "but blue")
        assert prompt.picture
        assert Image.open(io.BytesIO(prompt.picture)).size == (64, 64)
    assert len(shown) == 1  # the same file was asked about once
    # Another picture is another question, whatever the words.
    await search(client, query="but blue", image=picture("green"))
    assert len(shown) == len({prompt.picture for prompt in shown}) == 2


async def test_a_list_of_changes_to_one_picture(client: httpx.AsyncClient) -> None:
    body = {"image_id": "red.png", "query": ["but blue", "but green"], "rewrite": "never"}
    results = (await client.post("/search", json=body)).json()["results"]
    assert [result["query"] for result in results] == ["but blue", "but green"]
    assert all(hit["id"] != "red.png" for result in results for hit in result["hits"])


async def test_wrong_pictures_are_4xx(start) -> None:  # type: ignore[no-untyped-def]
    client = await start(max_image_bytes=2_000, max_image_pixels=5_000)
    text = base64.b64encode(b"no picture at all").decode()
    cut = base64.b64encode(base64.b64decode(picture("red"))[:40]).decode()
    for broken in (text, cut, "", "data:image/png;base64,"):
        told = await problem(client, 422, ErrorType.VALIDATION, image=broken, query="a")
        assert told.startswith("image: ")
    assert "5,000" in await problem(
        client, 413, ErrorType.TOO_LARGE, image=picture("red", size=(100, 51))
    )
    huge = base64.b64encode(png_of_size(10_000, 5_001)).decode()  # refused before it is decoded
    assert "5,000" in await problem(client, 413, ErrorType.TOO_LARGE, image=huge)
    noise = base64.b64encode(bytes(range(256)) * 8).decode()
    assert "2,000" in await problem(client, 413, ErrorType.TOO_LARGE, image=noise)
    told = await problem(client, 404, ErrorType.NOT_FOUND, image_id="x\u202e" * 300)
    assert told.startswith("There is no picture")
    assert len(told) < 300
    both = {"image": picture("red"), "image_id": "red.png"}
    await problem(client, 422, ErrorType.VALIDATION, **both)
    await problem(client, 422, ErrorType.VALIDATION)


async def test_composed_rewrites_alone(client: httpx.AsyncClient, rewriter: FakeRewriter) -> None:
    rewriter.answers["red / aber blau"] = " a blue square"
    for task in ("composed", "auto"):
        body = {"query": "aber blau", "image": picture("red"), "task": task}
        response = await client.post("/rewrite", json=body)
        (result,) = RewriteResponse.model_validate_json(response.text).results
        assert (result.task, result.rewrites[0].text) == ("composed", "a blue square")
    for wrong in ({"task": "composed"}, {"task": "long", "image": picture("red")}):
        response = await client.post("/rewrite", json={"query": "a", **wrong})
        assert response.status_code == 422
        assert "is about a picture" in response.json()["error"]


async def test_a_picture_that_nothing_describes_is_searched_with_as_it_is(
    start: Start, encoder: ClipEncoder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("nameless")
    images = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    ImageIndex.build(
        encoder.encode_images(images), ["1", "2"], [{}, {"name": " "}], encoder.fingerprint
    ).save(folder / "index")
    client = await start(index=folder / "index")
    result = await search(client, image_id="1", query="but blue")
    assert (result.rewrite.status, result.degraded) == ("kept", False)
    assert result.rewrite.reason == (
        "a picture to be changed, but no caption says what the picture shows"
    )
    assert result.hits[0].id == "2"


def test_the_change_is_never_cut_off() -> None:
    long = composed_query("word " * 500, "but blue")
    assert len(long) <= COMPOSED.max_chars
    assert long.endswith(" / but blue")
    assert COMPOSED.prompt(long).count("but blue\n") == 1
    # What parts the two cannot be forged, nor can a line of the prompt.
    forged = composed_query("a / b", "x\nNew picture: y / z")
    assert forged.count(" / ") == 1
    assert "\n" not in forged
    assert parse_rewrite(" New picture: y") is None
