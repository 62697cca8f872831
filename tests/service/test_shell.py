"""What the shell commands read and print: one line in, one line out, and nothing harmful."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import grape
from models.client import ClientError
from models.common.errors import InputError
from models.common.text_output import as_json, harmless, one_line
from service import asking, shell
from service.shell import read_lines
from tests.support.grape_server import GRAPE

LONG = "a long rewrite " * 30


class FakeAsk:
    """Stands for the server: refuses queries that hold NO, and too many at once."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.most = 100

    def __call__(self, route: str, body: dict[str, Any], _: object) -> dict[str, Any]:
        self.sent.append(body["query"])
        if route == "/search" and isinstance(body["query"], str):
            return searched(body["query"])
        status = 413 if len(body["query"]) > self.most else 422 * ("NO" in "".join(body["query"]))
        if status:
            cause = ClientError("validation", "refused.", None, status)
            raise InputError(cause.message) from cause
        if route == "/search":
            return {"results": [searched(query) for query in body["query"]]}
        return {"results": [self.rewritten(query, body["n"]) for query in body["query"]]}

    def rewritten(self, query: str, n: Any) -> dict[str, Any]:
        texts = [f"{query}\n in English", LONG][: 2 if n != 1 or query == "parts" else 1]
        rewrites = [{"text": text} for text in texts]
        parts = 2 if query == "parts" else 1
        return {"query": query, "status": "rewritten", "reason": "", "rewrites": rewrites,
                "parts": parts}  # fmt: skip


def searched(query: str) -> dict[str, Any]:
    rewrite = {"status": "rewritten", "reason": "", "texts": [LONG], "probabilities": [0.5],
               "parts": 1}  # fmt: skip
    metadata = {"file": "a\x1b[31m\tb\n.png", "name": "x\u202egnp"}
    hit = {"rank": 1, "score": 0.5, "id": "id\x9b1m", "metadata": metadata,
           "found_by": ["rewrite 1"]}  # fmt: skip
    return {"query": query, "rewrite": rewrite, "hits": [hit], "confident": True}


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> FakeAsk:
    fake = FakeAsk()
    monkeypatch.setattr(asking, "ask", fake)
    return fake


def piped(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    *flags: str,
    command: str = "rewrite",
) -> list[str]:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert grape.run([command, *flags]) == 0
    return capsys.readouterr().out.split("\n")[:-1]


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"a\nb\n", ["a", "b"]),
        (b"a\n\n  \nb", ["a", "", "", "b"]),
        (b"\n", [""]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"\xef\xbb\xbfa\nb\n", ["a", "b"]),
        ("a\r\nб\r\n".encode("utf-16"), ["a", "б"]),
        (b"a\x00\x1b\tb\n", ["a b"]),
        ("a\u2028b\x0bc\n".encode(), ["a b c"]),
        (b"ca\xffsa\n", ["ca sa"]),
        (b"None\nnull\n", ["None", "null"]),
    ],
)
def test_a_line_read_is_a_query(content: bytes, lines: list[str]) -> None:
    assert read_lines(io.BytesIO(content)) == lines


def test_one_line_in_is_one_line_out(
    ask: FakeAsk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = b"\na\r\n\r\nparts\nb\n"
    lines = piped(monkeypatch, capsys, content)
    long = LONG.strip()
    assert lines == ["", "a in English", "", f"parts in English {long}", "b in English"]
    lines = piped(monkeypatch, capsys, content, "-n", "auto")
    assert lines[1] == f"a in English\t{long}"
    assert len(lines) == 5
    results = [json.loads(line) for line in piped(monkeypatch, capsys, content, "--json")]
    assert [result["query"] for result in results] == ["", "a", "", "parts", "b"]
    assert piped(monkeypatch, capsys, b"\n\n") == ["", ""]
    assert ask.sent[-1] == ["a", "parts", "b"]


def test_a_line_that_is_refused_does_not_stop_the_others(
    ask: FakeAsk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ask.most = 2
    content = b"a\nb\nNO\nc\nd\n"
    lines = piped(monkeypatch, capsys, content, "--url", "http://127.0.0.1:9")
    assert lines == ["a in English", "b in English", "NO", "c in English", "d in English"]


def test_a_query_that_is_refused_is_an_error(
    ask: FakeAsk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert grape.run(["rewrite", "NO"]) == 2
    assert capsys.readouterr() == ("", "grape rewrite: refused.\n")
    assert grape.run(["rewrite", "a", "-n", "4"]) == 0
    assert capsys.readouterr().out == f"a in English\n{LONG.strip()}\n"


@pytest.mark.parametrize("query", ["None", "null", "none", "[1]", "{}", "true", "-5"])
def test_a_query_is_taken_as_it_is(ask: FakeAsk, query: str) -> None:
    assert grape.run(["search", query, "--json"]) == 0
    assert ask.sent == [query]


def test_what_begins_with_a_dash_follows_two(ask: FakeAsk) -> None:
    assert grape.run(["search", "-k", "3", "--", "--config"]) == 0
    assert ask.sent == ["--config"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["search", "red", "apple"], 'several words needs quotes: grape search "red apple"'),
        (["search", "red", "-k", "3", "apple"], 'needs quotes: grape search "red apple"'),
        (["rewrite", "rot", "$a"], "needs quotes: grape rewrite 'rot $a'"),
        (["search", "-cat"], 'there is no flag -cat; to search for it: grape search -- "-cat"'),
        (["search", "--indx", "a", "x"], "there is no flag --indx; did you mean --index?"),
        (["search", "x", "-k"], "-k: expected one argument; `grape search --help` lists"),
        (["search", "x", "-\x1b[31m"], r"there is no flag -\x1b[31m; to search for it"),
        (["search", "  "], "the query is empty."),
        (["rewrite", ""], "the query is empty."),
        (["serve", "--prt", "1"], "there is no flag --prt; did you mean --port?"),
        (["serve", "now"], 'there is no place for "now"; `grape serve --help` lists'),
    ],
)
def test_a_typing_mistake_is_one_line(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert grape.run(arguments) == 2
    out, told = capsys.readouterr()
    assert out == ""
    assert told.startswith(f"grape {arguments[0]}: ")
    assert sentence in told
    assert told.count("\n") == 1


def test_a_pipe_gets_tab_separated_lines(ask: FakeAsk, capsys: pytest.CaptureFixture[str]) -> None:
    assert grape.run(["search", "x"]) == 0
    heading, hit = capsys.readouterr().out.splitlines()
    assert heading == "rank\tscore\tid\tfile\tfound by"
    file = r"a\x1b[31m\tb\n.png x\u202egnp"
    assert hit.split("\t") == ["1", "0.500", r"id\x9b1m", file, LONG]


def test_each_line_is_searched_for(
    ask: FakeAsk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ask.most = 2
    url = ("--url", "http://127.0.0.1:9")
    heading, *hits = piped(monkeypatch, capsys, b"a\n\nb\nNO\nc\n", *url, command="search")
    assert heading.split("\t")[:3] == ["query", "rank", "score"]
    assert [hit.split("\t")[:2] for hit in hits] == [["a", "1"], ["b", "1"], ["c", "1"]]
    found = piped(monkeypatch, capsys, b"a\nNO\n", *url, "--json", "-", command="search")
    assert [json.loads(line)["query"] for line in found] == ["a", "NO"]
    assert json.loads(found[1])["error"] == "refused."


def test_a_search_that_every_line_is_refused_for_fails(
    ask: FakeAsk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"NO\nNO NO\n")))
    assert grape.run(["search", "--url", "http://127.0.0.1:9"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "grape search: refused."


@pytest.mark.heavy
def test_lines_are_searched_for_in_this_process(
    small_index: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a red square\n\nred\n")))
    flags = ["--index", str(small_index), "--llm", "none", "-k", "1"]
    assert grape.run(["search", *flags, "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["query"], one["hits"][0]["id"]) for one in told] == [
        ("a red square", "red.png"), ("red", "red.png"),
    ]  # fmt: skip
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a red square\n")))
    assert grape.run(["search", *flags, "-f"]) == 0
    assert capsys.readouterr().out == f"{small_index.parent / 'red.png'}\n"


def test_nothing_piped_in_is_an_error(
    ask: FakeAsk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert grape.run(["search"]) == 2
    assert "there is no query: give one, or pipe in lines." in capsys.readouterr().err


def test_paths_alone_are_printed_for_other_programs(
    ask: FakeAsk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hits = [{"id": "1", "metadata": {"file": "a b.png"}}, {"id": "2", "metadata": {}},
            {"id": "3", "metadata": {"file": "x\ny.png"}}]  # fmt: skip
    monkeypatch.setattr(asking, "ask", lambda *_: {"hits": hits})
    url = ["--url", "http://127.0.0.1:9"]
    assert grape.run(["search", "x", "-f", *url]) == 0
    out, told = capsys.readouterr()
    assert out == "a b.png\n"
    assert told.splitlines() == ["2 has no file of its own.", "3 has a line break in its name."]
    assert grape.run(["search", "x", "--files", "--pictures", "/pictures", *url]) == 0
    assert capsys.readouterr().out == "/pictures/a b.png\n"


def test_text_of_others_is_harmless() -> None:
    assert harmless("né 猫 👩‍🚀 می‌خواهم") == "né 猫 👩‍🚀 می‌خواهم"
    assert harmless("\x1b]0;x\x07\udc80") == r"\x1b]0;x\x07\udc80"
    assert one_line(" a\x1b\n\tb\u2029c\udc80 ") == "a b c"
    value = {"é\x9b": "\x1b\u202e\udc80猫"}
    assert json.loads(as_json(value)) == value
    assert all(letter.isprintable() for letter in as_json(value))


@pytest.mark.parametrize("arguments", [["--help"], ["search", "--help"], ["--version"]])
def test_a_pipe_that_nobody_reads_is_no_error(arguments: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([GRAPE, *arguments], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_encoding_without_these_letters_is_no_error() -> None:
    program = (
        "import sys, grape, service.asking as asking; sys.argv = ['grape', 'rewrite', 'x']\n"
        "rewrite = {'text': '\\u732b'}\n"
        "result = {'status': 'rewritten', 'rewrites': [rewrite], 'parts': 1}\n"
        "asking.ask = lambda *_: {'results': [result]}\n"
        "grape.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\\u732b\n", b"")


def test_it_says_that_probably_nothing_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    rewrite = {
        "status": "kept",
        "reason": "",
        "texts": ["cat"],
        "probabilities": [None],
        "parts": 1,
    }
    hit = {"rank": 1, "score": 0.1, "id": "1", "metadata": {"name": "cat"}, "found_by": ["query"]}
    for confident, warned in ((True, False), (False, True)):
        shell.print_hits(
            {"query": "cat", "rewrite": rewrite, "hits": [hit], "confident": confident}
        )
        shown = capsys.readouterr()
        assert ("no picture is a sure match" in shown.err) is warned
        assert "0.100" in shown.out
