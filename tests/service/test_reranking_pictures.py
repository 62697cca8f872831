"""Reranking by a model that sees the pictures, which the tests decide about."""

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from models.rewriter.protocol import Prompt, WrittenTokens
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
    before = await found(client)
    after = await found(client, rerank=True, rerank_by=by)
    assert names(after)[0] == "blue" != names(before)[0]
    assert after.rerank
    assert (after.rerank.status, after.rerank.by, after.rerank.seen) == ("reranked", "group", True)
    (prompt,) = looks.asked
    assert prompt.query == "ein rotes Bild"
    files = [(small_index / f"{name}.png").read_bytes() for name in names(before)]
    assert list(prompt.candidates) == files
    # The same pictures are looked at once.
    assert names(await found(client, rerank=True, rerank_by=by)) == names(after)
    assert len(looks.asked) == 1


async def test_a_request_may_have_the_captions_compared(
    start: Start, looks: Looks, rewriter: FakeRewriter
) -> None:
    result = await found(await start(), rerank=True, rerank_by="likelihood")
    assert result.rerank
    assert (result.rerank.by, result.rerank.seen) == ("likelihood", False)
    assert not looks.asked


async def test_a_picture_that_cannot_be_read_keeps_its_place(
    start: Start, looks: Looks, small_index: Path, tmp_path: Path
) -> None:
    """Its file changed after it was indexed."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    before = await found(await start())
    first, second, *_ = names(before)
    for name in names(before):
        content = (small_index / f"{name}.png").read_bytes()
        (pictures / f"{name}.png").write_bytes(b"GIF89a" if name == first else content)
    (pictures / f"{second}.png").unlink()
    after = await found(await start(pictures=pictures), rerank=True)
    assert names(after)[:2] == [first, second]
    assert after.rerank
    assert after.rerank.status == "reranked"
    assert [hit.rerank_score is None for hit in after.hits] == [True, True, False, False, False]


async def test_without_files_the_captions_are_compared(
    start: Start, looks: Looks, tmp_path: Path
) -> None:
    result = await found(await start(pictures=tmp_path), rerank=True)
    assert result.rerank
    assert (result.rerank.by, result.rerank.seen) == ("likelihood", False)
