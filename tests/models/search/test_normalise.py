"""The one form that queries are searched in."""

import time
import unicodedata

import numpy as np
import pytest

from models.retriever.clip_encoder import ClipEncoder
from models.search.normalise import has_words, normalise, only_symbol, version
from models.search.plain_english import read_words
from models.search.query import Query
from training.data.rows import Row


@pytest.mark.parametrize(("typed", "read"), [
    # Other forms of the same letters.
    ("ｇｕｉｔａｒ", "guitar"), ("ｷﾞﾀｰ", "ギター"), ("𝓰𝓾𝓲𝓽𝓪𝓻", "guitar"), ("e\u0301cole", "école"),
    ("ﬁsh", "fish"), ("你好！", "你好！"),
    # What nobody sees.
    ("gui\u200btar", "guitar"), ("gui\u00adtar", "guitar"), ("\ufeffguitar", "guitar"),
    ("\u202eguitar\u202c", "guitar"), ("a\u200cb", "ab"), ("gui\x07tar", "guitar"), ("\u200b", ""),
    ("می\u200cخواهم", "می\u200cخواهم"), ("क्\u200dष", "क्\u200dष"),
    # White space.
    ("  red\u00a0 \t apple ", "red apple"), ("Haus\nEnglish: banana", "Haus English: banana"),
    ("red\u2800apple", "red apple"), ("red\u2028apple", "red apple"),
    # Capitals.
    ("HUND", "hund"), ("СОБАКА", "собака"), ("ＨＵＮＤ", "hund"), ("𝐇𝐔𝐍𝐃", "hund"),
    ("ΟΔΟΣ", "οδος"),
    ("KIRMIZI KALP", "kırmızı kalp"), ("İNEK", "inek"), ("MINI BIKE", "mini bike"),
    ("BBC NEWS 24", "bbc news 24"), ("CAT 🔥", "cat fire"),
    ("BBC news", "BBC news"), ("A型血", "A型血"), ("ᏣᎳᎩ", "ᏣᎳᎩ"), ("Hund", "Hund"),
    # Emoji and other signs.
    ("🔥", "fire"), ("🔥🔥🔥", "fire"), ("red 🔥 truck", "red fire truck"),
    ("👩\u200d🚀", "woman astronaut"), ("❤️", "red heart"), ("🏴\u200d☠️", "pirate flag"),
    ("1️⃣", "keycap 1"), ("★", "black star"), ("♫♫", "beamed eighth notes"), ("iPhone™", "iPhoneTM"),
    ("...", "..."), ("???", "???"), ("24", "24"),
    # Sentences that are said again.
    ("A big cat. It is grey. a big  cat. ", "A big cat. It is grey."),
    ("大きい。灰色。大きい。", "大きい。 灰色。"), ("no no no", "no no no"), ("3.5.3.5", "3.5.3.5"),
])  # fmt: skip
def test_forms(typed: str, read: str) -> None:
    assert normalise(typed) == read
    assert normalise(read) == read, "once is enough"


def test_emoji_names_are_those_of_the_gallery() -> None:
    from models.demo.gallery import demo_pictures

    pictures = list(demo_pictures())[::7]
    wrong = {
        picture.emoji: read
        for picture in pictures
        if (read := normalise(picture.emoji)) != picture.names["en"]
    }
    assert len(pictures) > 200
    assert not wrong


def test_plain_text_is_left_alone() -> None:
    for text in ("a man's hat", "naïve café", "größer", "красная собака", "赤い犬", "빨간 개"):
        assert normalise(text) == text


def test_words() -> None:
    assert has_words("24")
    assert has_words("犬")
    assert not has_words("... ?!")


@pytest.mark.parametrize(("typed", "symbol"), [
    ("🔥", "🔥"), (" ❤️ ", "❤"), ("👩\u200d🚀", "👩\u200d🚀"), ("★", "★"),
    ("🔥🔥", None), ("🔥 fire", None), ("fire", None), ("...", None), ("7", None),
])  # fmt: skip
def test_a_symbol_alone(typed: str, symbol: str | None) -> None:
    assert only_symbol(typed) == symbol


def test_a_row_of_emoji_does_not_grow_without_end() -> None:
    assert len(normalise("🈵🈂" * 5000)) < 1000


def test_long_text_takes_milliseconds() -> None:
    started = time.perf_counter()
    normalise("слово\u200b и ещё слово 🔥 " * 1500)
    assert time.perf_counter() - started < 2


def test_a_query_keeps_what_was_typed() -> None:
    query = Query("ＨＵＮＤ")
    assert (query.typed, query.text) == ("ＨＵＮＤ", "hund")
    assert Query("\u200b").text == "\u200b", "there is always something to encode"
    assert Query(None).text is None


def test_rows_are_normalised_as_queries_are() -> None:
    row = Row(query="ＨＵＮＤ\u200b", targets=("1",))
    assert row.query == row.asked == "hund"


def test_version_is_stable() -> None:
    assert version() == version()
    assert len(version()) == 16
    assert unicodedata.unidata_version


def test_capitals_mean_something_to_the_language_model_alone(encoder: ClipEncoder) -> None:
    """So a short acronym loses nothing: gate and encoder read it as they read small letters."""
    for acronym in ("TV", "BBC", "USA", "DNA", "ATM"):
        assert read_words(acronym) == read_words(acronym.lower())
        upper, lower = encoder.encode_texts([acronym, acronym.lower()])
        assert np.allclose(upper, lower, atol=1e-5)
