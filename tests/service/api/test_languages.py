"""The pages in 14 languages: every string in each of them, and the right one for a reader."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.client.wire import SearchTimings
from models.demo.gallery import LANGUAGES
from models.retriever.types import TextLength
from models.search import gate
from models.search.gate import Gate, GateInput, decide
from service.api import languages
from service.api.languages import COOKIE, PAGE, RIGHT_TO_LEFT, STRINGS, page_in, strings_of
from tests.support.app import Start

ENGLISH = strings_of("en")
SCRIPTS = {file.name: file.read_text() for file in PAGE.glob("*.js")}
PAGES = {file.name: file.read_text() for file in PAGE.glob("*.html")}
OWN = {"lang", "dir", "options", "strings"}  # placeholders that stand for no string
EXPECTED_PLURALS = {"zh", "ja", "ko", "ru", "tr", "id", "ar", "fa"}  # have one form for any number


def texts(value: str | dict[str, str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value.values())


def names(value: str | dict[str, str]) -> list[set[str]]:
    return [set(re.findall(r"\{(\w+)\}", text)) for text in texts(value)]


def test_the_languages_are_those_of_the_demo() -> None:
    assert {file.stem for file in STRINGS.iterdir()} == set(LANGUAGES)
    assert next(iter(languages.languages())) == "en"
    assert set(LANGUAGES) >= RIGHT_TO_LEFT


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_string_is_missing(code: str) -> None:
    strings = strings_of(code)
    assert list(strings) == list(ENGLISH)  # in the same order, to be compared side by side
    for key, value in strings.items():
        assert all(text.strip() for text in texts(value)), key
        for found in names(value):
            assert found == names(ENGLISH[key])[0], key
        plural = isinstance(ENGLISH[key], dict) and code not in EXPECTED_PLURALS
        assert isinstance(value, dict) is plural, key
        assert not plural or set(value) == {"one", "other"}, key
    written = (STRINGS / f"{code}.json").read_text()
    assert len(json.loads(written, object_pairs_hook=list)) == len(strings)  # no key twice


@pytest.mark.parametrize("code", [code for code in LANGUAGES if code != "en"])
def test_the_strings_are_translated(code: str) -> None:
    strings = strings_of(code)
    same = {key for key, value in strings.items() if value == ENGLISH[key]}
    # Words that some of these languages share with English.
    shared = {
        "api",
        "stop",
        "status",
        "total",
        "stage_total",
        "metadata",
        "filters",
        "filters_n",
        "no",
    }
    assert same <= shared | {"mark_right"}, same - shared


def test_no_string_is_unused_and_none_is_asked_for_in_vain() -> None:
    in_pages = set(re.findall(r"\{\{(\w+)\}\}", "".join(PAGES.values()))) - OWN
    code = "".join(SCRIPTS.values())
    called = [re.findall(r'"(\w+)"', call) for call in re.findall(r"\bt\(([^;{]*?)[,)]", code)]
    asked = {key for keys in called for key in keys}
    assert in_pages | (asked - {"true"}) <= set(ENGLISH)
    quoted = set(re.findall(r'"(\w+)"', code)) | set(re.findall(r"^  (why_\w+):", code, re.M))
    quoted |= set(
        re.findall(r'"(login_\w+)"', Path(languages.__file__).with_name("auth.py").read_text())
    )
    stages = {f"stage_{stage}" for stage in SearchTimings.model_fields}
    assert set(ENGLISH) == in_pages | (quoted & set(ENGLISH)) | stages | {"language"}
    assert {key for key in ENGLISH if key.startswith("stage_")} == stages


@pytest.mark.parametrize("name", PAGES)
def test_pages_and_scripts_hold_no_words_of_their_own(name: str) -> None:
    """Except the program's name, which is the same everywhere."""
    text = re.sub(r"<!--.*?-->|<title>GRAPE: ", "", PAGES[name])
    shown = re.findall(r">([^<>]*[A-Za-z][^<>]*)<", text)
    shown += re.findall(r'(?:aria-label|placeholder|title|alt)="([^"]*)"', text)
    words = (re.sub(r"\{\{\w+\}\}|\{problem\}|GRAPE", "", one) for one in shown)
    assert not [one for one in words if re.search("[A-Za-z]", one)]


@pytest.mark.parametrize("code", LANGUAGES)
async def test_the_page_is_in_the_language_of_the_browser(
    client: httpx.AsyncClient, code: str
) -> None:
    answer = await client.get("/", headers={"Accept-Language": f"{code}-XX,{code};q=0.9,xx;q=0.8"})
    side = "rtl" if code in ("ar", "fa") else "ltr"
    assert f'<html lang="{code}" dir="{side}">' in answer.text
    assert strings_of(code)["query_label"].replace("'", "&#x27;") in answer.text
    assert f'<option value="{code}" lang="{code}" selected>' in answer.text
    assert answer.text.count("<option ") == len(LANGUAGES)
    assert "{{" not in answer.text
    assert {"Accept-Language", "Cookie"} <= set(answer.headers["vary"].split(", "))


@pytest.mark.parametrize(
    ("accepted", "chosen", "code"),
    [
        ("", "", "en"),
        ("xx, yy;q=0.5", "", "en"),
        ("en;q=0.4, fr;q=0.7, de;q=0.6", "", "fr"),
        ("fr;q=0, DE-at", "", "de"),
        ("xx,zh-Hant-TW", "", "zh"),
        ("*", "", "en"),
        ("fr;q=nonsense,ja;q=0.1", "", "ja"),
        (",;=,;q=;;", "", "en"),
        ("de," * 1000, "", "de"),
        ("de", "ar", "ar"),
        ("de", "xx", "de"),
        ("de", "../strings/ar", "de"),
    ],
)
async def test_the_switch_goes_before_the_header(
    client: httpx.AsyncClient, accepted: str, chosen: str, code: str
) -> None:
    headers = {"Accept-Language": accepted, "Cookie": f"{COOKIE}={chosen}"}
    assert f'<html lang="{code}"' in (await client.get("/", headers=headers)).text


async def test_the_login_is_in_the_readers_language(start: Start) -> None:
    client = await start(api_keys="a-key-of-these-tests-0123456789")
    headers = {"Accept-Language": "fa", "Accept": "text/html"}
    asked = await client.get("/", headers=headers)
    assert asked.status_code == 401
    assert '<html lang="fa" dir="rtl">' in asked.text
    assert strings_of("fa")["login_key"] in asked.text
    refused = await client.post("/login", data={"key": "wrong"}, headers=headers)
    assert strings_of("fa")["login_wrong"] in refused.text


def test_a_string_cannot_end_the_script_element(monkeypatch: pytest.MonkeyPatch) -> None:
    evil: dict[str, Any] = {**ENGLISH, "search": "</script><img src=x>&"}
    monkeypatch.setattr(languages, "strings_of", lambda _: evil)
    page = page_in.__wrapped__("index.html", "en")
    assert "<img src=x>" not in page
    block = re.search(r'<script id="strings"[^>]*>(.*?)</script>', page)
    assert block
    assert json.loads(block[1]) == evil


def said() -> dict[str, re.Pattern[str]]:
    """What the page recognises of the server's reasons."""
    lines = re.findall(r'^  (why_\w+): "(.*)",$', SCRIPTS["reasons.js"], re.M)
    return {key: re.compile(json.loads(f'"{text}"').replace("(?<", "(?P<")) for key, text in lines}


def reasons_of_the_gate() -> list[str]:
    short, long = TextLength(5, 77), TextLength(99, 77)
    description = "a " + "small dog runs over the green grass " * 3
    cases = [
        ("red heart", short, 0.9), ("red heart", short, 0.1), ("kroflax grmbl", short, 0.9),
        ("kroflax grmbl", short, 0.1), ("大象", short, 0.5), ("das Geschenk", short, 0.5),
        (description, short, 0.5), ("red heart", long, 0.5), ("A dog runs fast. " * 9, short, 0.5),
        ("!?", short, 0.5),
    ]  # fmt: skip
    known = [n / 100 for n in range(101)]
    fitted = Gate(plain=0.5, other=0.5, description=0.5)
    return [
        decide(text, GateInput(length, best, known), fitted).reason for text, length, best in cases
    ]


def test_the_page_recognises_what_the_gate_says() -> None:
    found = []
    for reason in [*reasons_of_the_gate(), "not requested", "requested"]:
        matched = [key for key, pattern in said().items() if pattern.fullmatch(reason)]
        assert len(matched) == 1, reason
        found += matched
    assert set(found) == {
        "why_plain_known", "why_plain_new", "why_other_known", "why_other_new", "why_script",
        "why_foreign", "why_description", "why_too_long", "why_long", "why_no_words", "why_never",
        "why_always",
    }  # fmt: skip
    assert set(said()) == {key for key in ENGLISH if key.startswith("why_")}
    source = "".join(
        file.read_text() for file in Path(gate.__file__).parent.glob("*.py")
    ) + "".join(file.read_text() for file in Path(languages.__file__).parents[1].rglob("*.py"))
    for sentence in (
        "a picture without words", "a picture to be changed", "this server has no rewriter",
        "the rewriter is not ready: ", "still loading", "the query says what is not wanted",
        "fewer than two candidates have a text to compare",
    ):  # fmt: skip
        assert sentence in source
