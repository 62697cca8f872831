"""Reranking by a model that sees the pictures, which the tests decide about."""

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from models.retriever.image_index import ImageIndex
from models.rewriter.protocol import Prompt, WrittenTokens
from service import reranking
from service.reference import file_of
from tests.service.test_reranking import found, names
from tests.support.app import FakeRewriter, Start


class Looks:
    """Rates pictures by how blue they are."""

    def __init__(self) -> None:
        self.asked: list[Prompt] = []

    async def written_tokens(self, prompts: Sequence[Prompt]) -> list[WrittenTokens]:
        self.asked += prompts
        return [self._ratings(prompt.candidates) for prompt in prompts]

    def _ratings(self, pictures: Sequence[bytes]) -> WrittenTokens:
        blue = [Image.open(io.BytesIO(data)).convert("RGB").getpixel((9, 9)) for data in pictures]
        digits = [" 9" if pixel == (0, 0, 255) else " 1" for pixel in blue]
        return WrittenTokens(digits, [{digit: 1.0} for digit in digits])


@pytest.fixture
def looks(rewriter: FakeRewriter, monkeypatch: pytest.MonkeyPatch) -> Looks:
    eyes = Looks()
    monkeypatch.setattr(rewriter, "sees_pictures", True, raising=False)
    monkeypatch.setattr(rewriter, "written_tokens", eyes.written_tokens)
    return eyes


@pytest.mark.parametrize("by", ["auto", "group"])
async def test_a_model_that_sees_pictures_is_shown_the_candidates(
    by: str, start: Start, looks: Looks, small_index: Path
) -> None:
    client = await start(rerank_field="nothing")  # no caption is needed
    before = names(await found(client))
    after = await found(client, rerank=True, rerank_by=by)
    assert names(after).index("blue") < before.index("blue")
    assert after.rerank
    assert (after.rerank.status, after.rerank.by, after.rerank.seen) == ("reranked", "group", True)
    (prompt,) = looks.asked
    assert prompt.query == "ein rotes Bild"
    files = [(small_index.parent / f"{name}.png").read_bytes() for name in before]
    assert list(prompt.candidates) == files
    # The same pictures are looked at once.
    assert names(await found(client, rerank=True, rerank_by=by)) == names(after)
    assert len(looks.asked) == 1


async def test_a_request_may_have_the_captions_compared(start: Start, looks: Looks) -> None:
    result = await found(await start(), rerank=True, rerank_by="likelihood")
    assert result.rerank
    assert (result.rerank.by, result.rerank.seen) == ("likelihood", False)
    assert not looks.asked


async def test_a_picture_that_cannot_be_read_keeps_its_place(
    start: Start, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file changed, or went, after it was indexed."""
    client = await start()
    before = names(await found(client))
    files = {0: None, 1: b"GIF89a"}

    def file(index: ImageIndex, position: int) -> bytes | None:
        place = before.index(index.ids[position].removesuffix(".png"))
        return files[place] if place in files else file_of(index, position)

    monkeypatch.setattr(reranking, "file_of", file)
    after = await found(client, rerank=True)
    assert names(after)[:2] == before[:2]
    assert after.rerank
    assert after.rerank.status == "reranked"
    assert [hit.rerank_score is None for hit in after.hits] == [True, True, False, False, False]


async def test_without_files_the_captions_are_compared(
    start: Start, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reranking, "file_of", lambda *_: None)
    result = await found(await start(), rerank=True)
    assert result.rerank
    assert (result.rerank.by, result.rerank.seen) == ("likelihood", False)
