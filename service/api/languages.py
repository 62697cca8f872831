"""The pages in the reader's language: which one it is, and the pages with its strings."""

import html
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from starlette.requests import Request

PAGE = Path(__file__).parent.parent / "page"
STRINGS = PAGE / "strings"
COOKIE = "grape_language"  # set by the page's switch
ENGLISH = "en"
RIGHT_TO_LEFT = frozenset({"ar", "fa"})

_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_MOST_WISHES = 20  # languages that a header is read for


@cache
def languages() -> dict[str, str]:
    """Code and own name of each language that the pages speak, English first."""
    codes = sorted((file.stem for file in STRINGS.glob("*.json")), key=lambda c: (c != ENGLISH, c))
    return {code: strings_of(code)["language"] for code in codes}


@cache
def strings_of(language: str) -> dict[str, Any]:
    """The strings of a language by key; a string that counts something has one for each plural."""
    found: dict[str, Any] = json.loads((STRINGS / f"{language}.json").read_text(encoding="utf-8"))
    return found


def language_of(request: Request) -> str:
    """The language that was chosen on the page, or the browser's first that there is."""
    chosen = request.cookies.get(COOKIE, "")
    if chosen in languages():
        return chosen
    wishes: list[tuple[float, str]] = []
    for wish in request.headers.get("accept-language", "").split(",")[:_MOST_WISHES]:
        tag, _, weight = wish.strip().partition(";q=")
        wishes.append((_weight(weight), tag.partition("-")[0].lower()))
    ordered = sorted(wishes, key=lambda one: -one[0])  # equal ones stay in their order
    return next((code for weight, code in ordered if weight and code in languages()), ENGLISH)


@cache
def page_in(name: str, language: str) -> str:
    """A page of the folder ``page`` in a language; ``{{key}}`` stands for a string."""
    strings = strings_of(language)
    own = {
        "lang": language,
        "dir": "rtl" if language in RIGHT_TO_LEFT else "ltr",
        "options": "".join(_option(code, language) for code in languages()),
        # In a script element, "<" could end it.
        "strings": json.dumps(strings, ensure_ascii=False).replace("<", "\\u003c"),
    }

    def filled(found: re.Match[str]) -> str:
        key = found[1]
        return own[key] if key in own else html.escape(strings[key])

    return _PLACEHOLDER.sub(filled, (PAGE / name).read_text(encoding="utf-8"))


def _option(code: str, chosen: str) -> str:
    selected = " selected" if code == chosen else ""
    name = html.escape(languages()[code])
    return f'<option value="{code}" lang="{code}"{selected}>{name}</option>'


def _weight(text: str) -> float:
    """The weight of a language in the header, 1 without one; 0 if it is nonsense."""
    if not text:
        return 1.0
    return float(text) if re.fullmatch(r"[01](\.\d{0,3})?", text) else 0.0
