"""Which language a short text may be in."""

import pytest

from training.data.captions.languages import is_in, name_of, script_of

ASKED = ["de", "fr", "es", "pt", "ar", "fa"]


@pytest.mark.parametrize(
    ("code", "name", "script"),
    [
        ("de", "German", "Latn"), ("el", "Greek", "Grek"), ("sw", "Swahili", "Latn"),
        ("zh", "Chinese", "Hans"), ("fa", "Persian", "Arab"),
    ],
)  # fmt: skip
def test_languages_have_a_name_and_a_script(code: str, name: str, script: str) -> None:
    assert (name_of(code), script_of(code)) == (name, script)


@pytest.mark.parametrize("code", ["xq", "german", "DE-at", "", "d"])
def test_what_is_no_code_has_no_name(code: str) -> None:
    assert name_of(code) is None


@pytest.mark.parametrize(
    ("text", "code", "right"),
    [
        ("Gitarre", "de", True), ("Hotel", "de", True), ("guitar", "de", False),
        ("a small red house", "de", False), ("rotes Herz", "en", False),
        ("Saxophonspielerin", "de", True), ("chat", "fr", True), ("pizza", "it", True),
        ("perro", "es", True), ("perro", "pt", False), ("chien", "es", False),
        ("大象", "zh", True), ("ぞう", "zh", False), ("ぞう", "ja", True), ("大象", "ja", True),
        ("elephant", "zh", False), ("초록색 모자", "ko", True), ("слон", "ru", True),
        ("قبعة حمراء", "ar", True), ("قبعة حمراء", "fa", False), ("دختر خندان", "ar", False),
        ("iPhone 手机壳", "zh", True), ("123", "de", False), ("kiti", "sw", True),
    ],
)  # fmt: skip
def test_a_text_is_in_a_language_by_letters_and_words(text: str, code: str, right: bool) -> None:
    assert is_in(text, code, ASKED) is right
