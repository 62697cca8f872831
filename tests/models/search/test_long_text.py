"""Text cut at the ends of its sentences."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from models.retriever.clip_encoder import ClipEncoder
from models.search.long_text import readable_parts, split_text


def fits(part: str) -> bool:
    return len(part) <= 20


def test_sentences_stay_whole_and_are_packed() -> None:
    text = "One two. Three four! Is it five? Yes.\nSix"
    assert split_text(text, fits) == ["One two. Three four!", "Is it five? Yes. Six"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Er kostet 3.5 Euro. Ja.", ["Er kostet 3.5 Euro.", "Ja."]),
        ('Sie rief: "Komm!" Er kam.', ['Sie rief: "Komm!"', "Er kam."]),
        (
            "这是一只很大的红色的狗在跑。它在雪地里玩。",
            ["这是一只很大的红色的狗在跑。", "它在雪地里玩。"],
        ),
        (
            "「これは赤い犬です。」それは雪の中にいる。",
            ["「これは赤い犬です。」", "それは雪の中にいる。"],
        ),
        ("هل هذا كلب أحمر؟ نعم، كبير جدا.", ["هل هذا كلب أحمر؟", "نعم، كبير جدا."]),
    ],
)
def test_every_language_ends_sentences_its_own_way(text: str, parts: list[str]) -> None:
    assert split_text(text, fits) == parts


def test_what_has_no_end_is_cut_between_words_and_then_inside() -> None:
    assert all(map(fits, split_text("word " * 40, fits)))
    assert "".join(split_text("字" * 101, fits)) == "字" * 101


@given(st.text(max_size=400), st.integers(1, 30))
def test_nothing_is_lost_and_everything_fits(text: str, most: int) -> None:
    parts = split_text(text, lambda part: len(part) <= most)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(len(part) <= most for part in parts)


def test_the_encoder_reads_every_part_to_its_end(encoder: ClipEncoder) -> None:
    short = "a red dragon"
    assert readable_parts(short, encoder) == [short]
    words = [f"word{number}" for number in range(2_000)]
    for text in (" ".join(words), ". ".join(words), "龙" * 4_000, "\U0001f409" * 500):
        parts = readable_parts(text, encoder)
        assert len(parts) > 1
        assert not any(encoder.text_length(part).truncated for part in parts)
        assert "".join("".join(parts).split()) == "".join(text.split())


def test_what_stands_at_the_end_is_read(encoder: ClipEncoder) -> None:
    """Cut silently, both texts are the same to the encoder."""
    talk = "I have been looking for it since this morning and could not find it. " * 8
    dragon, house = f"{talk} A red dragon.", f"{talk} A house with a garden."
    cut = encoder.encode_texts([dragon, house])
    np.testing.assert_allclose(cut[0], cut[1], atol=1e-6)
    whole = [
        encoder.encode_texts(readable_parts(text, encoder)).mean(0) for text in (dragon, house)
    ]
    assert np.abs(whole[0] - whole[1]).max() > 0.01
