"""What the shell commands read and print."""

import base64
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

from models.client.wire import RewriteResult, RewriteText, Status
from models.common.errors import InputError
from models.common.progress import say
from models.common.text_output import harmless, one_line, tab_separated

_BOMS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
Show = Callable[[dict[str, Any]], None]
HEADINGS = ("rank", "score", "id", "file", "found by")


def read_lines(stream: BinaryIO) -> list[str]:
    """The lines of a stream, each as one query; a blank one is empty.

    Reads UTF-8 and, after a byte-order mark, UTF-16; ends of lines may be those of Windows.

    Raises:
        InputError: there is no line.
    """
    content = stream.read()
    mark = next((mark for mark in _BOMS if content.startswith(mark)), b"")
    text = content[len(mark) :].decode(_BOMS.get(mark, "utf-8"), "replace")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if not lines[-1]:
        lines.pop()
    if not lines:
        raise InputError("there is no query: give one, or pipe in lines.")
    for number, line in enumerate(lines, 1):
        if "\N{REPLACEMENT CHARACTER}" in line:
            say(f"line {number} is not UTF-8: what cannot be read is left out.")
    return [one_line(line.replace("\N{REPLACEMENT CHARACTER}", " ")) for line in lines]


def as_lines(result: dict[str, Any], n: int | str) -> list[str]:
    """The rewrites of a query, a line each: the parts of a long one are one."""
    texts = [one_line(rewrite["text"]) for rewrite in result["rewrites"]]
    return [" ".join(texts)] if n == 1 or result["parts"] > 1 else texts


def unasked(query: str, status: Status, reason: str) -> dict[str, Any]:
    """What the JSON says of a line that no rewriter has answered."""
    texts = [RewriteText(text=query, clip_tokens=0, truncated=False)] if query else []
    return RewriteResult(
        query=query, task="multilingual", status=status, reason=reason, rewrites=texts,
        parts=1, adapter=None,
    ).model_dump()  # fmt: skip


def print_files(answer: dict[str, Any], folder: str) -> None:
    """The path of each picture, a line each."""
    for hit in answer["hits"]:
        file = hit["metadata"].get("file")
        if file is None or "\n" in file:
            lacks = "has no file of its own" if file is None else "has a line break in its name"
            say(f"{hit['id']} {lacks}.")
        else:
            print(os.path.join(folder, file))


def print_hits(answer: dict[str, Any], several: bool = False, show: Show | None = None) -> None:
    """A table on a terminal, and tab-separated lines elsewhere.

    Args:
        several: whether it is one of several answers: lines begin with the query, and have no
            heading.
        show: shows the picture of a hit in the terminal, above the hit's line.
    """
    if "error" in answer:  # which has been said
        return
    _warn(answer, several)
    rewrite, query = answer["rewrite"], answer["query"] or ""
    rows = [_row(hit, rewrite) for hit in answer["hits"]]
    if not sys.stdout.isatty():
        lines = [(query, *row) for row in rows] if several else [HEADINGS, *rows]
        if lines:
            print(tab_separated(lines))
        return
    if several:
        print(harmless(f"\n{query}"))
    texts = dict(zip(rewrite["texts"], rewrite["probabilities"], strict=True))
    if rewrite["status"] == "rewritten":
        shown = [text if p is None else f"{text} ({p:.0%})" for text, p in texts.items()]
        print(f"searched for: {harmless(', '.join(shown))}")
    if not show:
        _draw(rows)
        return
    for hit, row in zip(answer["hits"], rows, strict=True):
        show(hit)
        print(harmless("  ".join(cell for cell in row if cell)))


def _warn(answer: dict[str, Any], several: bool) -> None:
    """Says what is unusual about an answer."""
    named = f"{(answer['query'] or '')[:60]}: " if several else ""
    if answer["rewrite"]["status"] == "fallback":
        say(f"{named}not rewritten: {answer['rewrite']['reason']}")
    if answer.get("rerank", {}).get("status") == "fallback":
        say(f"{named}not reranked: {answer['rerank']['reason']}")
    if answer["hits"] and not answer["confident"]:
        say(f"{named}no picture is a sure match: look at the first few.")


def _row(hit: dict[str, Any], rewrite: dict[str, Any]) -> tuple[str, ...]:
    metadata = hit["metadata"]
    name = " ".join(str(metadata[key]) for key in ("file", "name", "text") if key in metadata)
    found_by = ", ".join(_searched_text(search, rewrite) for search in hit["found_by"])
    return str(hit["rank"]), f"{hit['score']:.3f}", hit["id"], name, found_by


def _searched_text(search: str, rewrite: dict[str, Any]) -> str:
    """What a search is called: the rewrite itself instead of its number."""
    name, _, number = search.partition(" ")
    if name == "rewrite" and rewrite["parts"] == 1:
        return str(rewrite["texts"][int(number) - 1])
    return search


def _draw(rows: Iterable[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in ("rank", "score") else "left")
    for row in rows:
        table.add_row(*map(harmless, row))
    Console(markup=False, highlight=False, emoji=False).print(table)


def read_base64(path: Path) -> str:
    """A file as base64.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
