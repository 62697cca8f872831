"""Answers of chat models: the rewrite in them, without thoughts, markdown, lists and preambles.

What a completion model writes has none of these and passes unchanged.
"""

import html
import json
import re
from typing import Any

from models.rewriter.tasks import parse_rewrite

_READ_CHARS = 20_000  # of an answer, and a tenth of that of a line
_THOUGHT = r"think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis|scratchpad"
_THOUGHTS = re.compile(
    rf"<({_THOUGHT})\b[^<>]*>.*?(?:</\1\s*>|\Z)|\[THINK\].*?(?:\[/THINK\]|\Z)"
    r"|◁think▷.*?(?:◁/think▷|\Z)"
    r"|<\|channel\|>(?!final).*?(?:<\|channel\|>final|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_END_OF_THOUGHT = re.compile(rf"</(?:{_THOUGHT})\s*>|\[/THINK\]|◁/think▷", re.I)
_TAGS = re.compile(
    r"<\|[^<>|]{1,40}\|>|</?[a-z][^<>]{0,80}>|\[/?INST\]|<start_of_turn>|<end_of_turn>", re.I
)
_FENCE = re.compile(r"^\s*(?:```|~~~)[\w+-]*\s*$")
_LIST_MARK = re.compile(r"^(?:#{1,6}|>|[-*+•–—‣·]|\(?\d{1,2}[.)]|\(?[a-z]\))\s+(?=\S)", re.I)
_EMPHASIS = re.compile(r"(\*{1,3}|_{2,3}|~~|`+|(?<!\w)_)(?=\S)(.+?)(?<=\S)\1(?!\w)")
_LINK = re.compile(r"!?\[([^\[\]]+)\]\([^()\s]*\)")
_BOXED = re.compile(r"\\(?:boxed|text|textbf|mathrm)\{([^{}]*)\}")
_LABEL = re.compile(
    r"^(?:(?:final |english |the |best )*"
    r"(?:answer|rewrite|rewritten query|query|translation|meaning|caption|output|result|"
    r"response|assistant|final))\s*[:：]\s*",
    re.I,
)
_ASSENT = r"(?:sure|certainly|of course|absolutely|okay|ok|great)"
_ABOUT = r"(?:translation|meaning|rewrite|rewritten query|caption|answer|equivalent)"
_PREAMBLE = re.compile(
    rf"^(?:{_ASSENT}[!,.:]\s*)?(?:here(?:'s|’s| is| are)|the (?:\w+ ){{0,3}}{_ABOUT})\b.*?[:：]\s*|"
    rf"^{_ASSENT}(?:[!,:]\s*|\.\s+(?=\S))|"
    rf"^the (?:\w+ ){{0,3}}{_ABOUT}\b.*?\bis\s+|"
    r"^the (?:\w+ )?(?:word|phrase)\b.*?\b(?:means|translates (?:in)?to)\s+|"
    r"^.{1,200}\s(?:→|⟶|⇒|->|=>)\s+",
    re.I,
)
_INTRODUCES = re.compile(rf"^(?:{_ASSENT}|in english|this|here)\b.*[:：]\W*$|^{_ASSENT}!$", re.I)
_MEANS = re.compile(
    r"\b(?:means|is|as|translates (?:in)?to|be)\s*[:：]?\s*(?:[*_`]*[\"“„«]|\*\*)(.+?)[\"”“»*]",
    re.I,
)
_FIRST_QUOTED = re.compile(r"^[\"“„«](.+?)[\"”“»]\s+(?:is|means|\(|[-–—])")
_REFUSES = re.compile(
    r"^(?:i(?:'|’)?m (?:sorry|afraid|unable|not able)|i am (?:sorry|afraid|unable|not able)|"
    r"sorry(?:[,.!]| but| for)|my apologies|i apologi[sz]e|i (?:can(?:'|’)?t|cannot|can not)\b|"
    r"i (?:don(?:'|’)?t|do not) (?:know|understand|have|see)\b|as an? (?:ai|language model)\b|"
    r"unfortunately\b|please (?:provide|clarify|give|specify)|could you\b|"
    r"(?:okay|ok|alright|hmm|so)?,? ?(?:let(?:'|’)?s (?:think|see|start|break)|let me\b)|"
    r"(?:okay|ok|alright|hmm|so), (?:i|we|the user)\b|"
    r"(?:we need to|i need to|the user (?:wants|asks|is asking|says|typed|means))\b)",
    re.I,
)
_QUOTES = "\"'“”„‟«»‹›‘’‚`´「」『』《》〈〉＂＇"
_KEYS = ("rewrite", "rewritten_query", "answer", "english", "translation", "query", "text",
         "caption", "output", "result", "final", "rewrites", "queries", "content")  # fmt: skip


def read_rewrite(answer: str) -> str | None:
    """The rewrite in an answer; None when there is none.

    Reads what :func:`models.rewriter.tasks.parse_rewrite` does, once the answer is clean.
    """
    cleaned = clean_answer(answer)
    return None if cleaned is None else parse_rewrite(cleaned)


def clean_answer(answer: str) -> str | None:
    """The line of an answer that holds the rewrite, without what chat models put around it.

    None if the answer is a thought, a refusal or an introduction and nothing else.
    """
    text = _without_thoughts(answer)
    if (inside := _from_json(text)) is not None:
        text = inside
    for line in text.split("\n"):
        if _FENCE.match(line) or not line.strip():
            continue
        cleaned = _clean_line(line)
        if _REFUSES.match(cleaned):
            return None
        if cleaned and not _INTRODUCES.match(cleaned):
            return cleaned
    return None


def _without_thoughts(answer: str) -> str:
    text = _THOUGHTS.sub(" ", answer[:_READ_CHARS])
    # The chat template may have opened the thought before the answer began.
    text = _END_OF_THOUGHT.split(text)[-1]
    return html.unescape(_TAGS.sub(" ", text)) if re.search(r"[<&\[◁]", text) else text


def _clean_line(line: str) -> str:
    """Strips marks until nothing changes, since they are nested: ``1. **"house"**``."""
    line, before = line[: _READ_CHARS // 10], None
    if found := _MEANS.search(line) or _FIRST_QUOTED.match(line.strip()):
        line = found[1]
    while before != line:
        before = line
        line = line.strip()
        line = _LIST_MARK.sub("", line)
        line = _LINK.sub(r"\1", line)
        line = _BOXED.sub(r"\1", line)
        line = line[1:-1] if (line[:1], line[-1:]) == ("[", "]") else line
        line = _EMPHASIS.sub(r"\2", line)
        line = line.strip("$") if line[:1] == line[-1:] == "$" else line
        line = line.rstrip(" .,;:") if line[:1] in _QUOTES else line
        line = line.strip(_QUOTES).strip()
        line = _LABEL.sub("", line)
        line = _PREAMBLE.sub("", line)
    return line


def _from_json(text: str) -> str | None:
    """The first text in an answer that is JSON, in a fence or not."""
    bare = re.sub(r"^\s*(?:```|~~~)\w*\s*|\s*(?:```|~~~)\s*$", "", text).strip()
    if bare[:1] not in ("{", "["):
        return None
    try:
        return _first_text(json.loads(bare))
    except (ValueError, RecursionError):
        return "" if bare[:1] == "{" else None


def _first_text(value: Any) -> str:
    if isinstance(value, dict):
        lower = {str(key).lower(): part for key, part in value.items()}
        value = [lower[key] for key in _KEYS if key in lower] or list(lower.values())
    if isinstance(value, list):
        return next(filter(None, map(_first_text, value)), "")
    return value if isinstance(value, str) else ""
