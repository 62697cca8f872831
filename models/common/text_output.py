"""Text for a terminal or a pipe: what others wrote can move no cursor and break no line."""

import json
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

# Control characters, line and paragraph separators, halves of surrogate pairs, and the marks that
# turn the direction of what follows. Joiners stay, which emoji and Persian need.
_HARMFUL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def harmless(text: str) -> str:
    r"""The text with ``\x1b`` and the like written out."""
    return _HARMFUL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def harmless_lines(text: str) -> str:
    """The same, keeping the ends of lines."""
    return "\n".join(map(harmless, text.split("\n")))


def one_line(text: str) -> str:
    """The text with single spaces for white space and control characters."""
    spaced = "".join(" " if unicodedata.category(mark) in ("Cc", "Cs") else mark for mark in text)
    return harmless(" ".join(spaced.split()))


def tab_separated(rows: Iterable[Iterable[str]]) -> str:
    """A line for each row."""
    return "\n".join("\t".join(harmless(cell) for cell in row) for row in rows)


def as_json(value: Any) -> str:
    """JSON in one line, which a terminal and every encoding of Unicode can show."""
    text = json.dumps(value, ensure_ascii=False)
    return _HARMFUL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
