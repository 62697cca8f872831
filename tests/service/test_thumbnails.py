"""`grape search --images` in a terminal: the test plays the terminal, on a pseudo-terminal."""

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

import grape

SIXEL, KITTY, NEITHER = "\x1b[?62;4c", "\x1b[?62c", "\x1b[?1;2c"


def in_terminal(arguments: list[str], answers: str, kitty: bool = False) -> tuple[str, int]:
    """What a command prints on a terminal, and its exit code.

    Args:
        answers: what the terminal says it is, when it is asked for its attributes.
        kitty: whether it also knows kitty's graphics protocol.
    """
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "grape", *arguments]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, close_fds=True
    )
    os.close(theirs)
    shown = b""
    deadline = time.monotonic() + 120
    asked = {b"\x1b[c": answers, b"\x1b_Gi=": "\x1b_Gi=1;OK\x1b\\" if kitty else ""}
    while time.monotonic() < deadline:
        if not select.select([ours], [], [], 0.2)[0]:
            if process.poll() is not None:
                break
            continue
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        shown += part
        for question, answer in list(asked.items()):
            if question in part and answer:
                os.write(ours, answer.encode())
                del asked[question]
    os.close(ours)
    return shown.decode(errors="replace"), process.wait(10)


def flags(index: Path, *more: str) -> list[str]:
    return ["search", "a red square", "--index", str(index), "--llm", "none", "-k", "2", *more]


@pytest.mark.heavy
def test_a_terminal_with_sixel_shows_the_pictures(small_index: Path) -> None:
    shown, code = in_terminal(flags(small_index, "--images"), SIXEL)
    assert code == 0, shown
    assert shown.count("\x1bP") == 2  # a picture in Sixel for each hit
    assert shown.index("\x1bP") < shown.index("red.png")


@pytest.mark.heavy
def test_kitty_shows_the_pictures(small_index: Path) -> None:
    shown, code = in_terminal(flags(small_index, "--images"), KITTY, kitty=True)
    assert code == 0, shown
    placeholder = chr(0x10EEEE)  # kitty draws the picture in the place of these
    assert shown.index(placeholder) < shown.index("red.png")


@pytest.mark.heavy
def test_a_terminal_that_cannot_is_told_and_has_the_table(small_index: Path) -> None:
    shown, code = in_terminal(flags(small_index, "--images"), NEITHER)
    assert code == 0, shown
    assert "this terminal shows no pictures: it knows neither Sixel nor kitty" in shown
    assert "\x1bP" not in shown
    assert "found by" in shown
    assert "red.png" in shown


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ([], "--images needs a terminal, and input or output is none: leave it out."),
        (["--json"], "leave out --json or -f."),
        (["-f"], "leave out --json or -f."),
    ],
)
def test_a_pipe_is_no_terminal(
    more: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert grape.run(["search", "x", "--images", "--url", "http://127.0.0.1:9", *more]) == 2
    assert sentence in capsys.readouterr().err


def test_a_missing_package_is_one_sentence() -> None:
    program = (
        "import sys, grape\n"
        "sys.modules['textual_image'] = None\n"
        "sys.stdin.isatty = sys.stdout.isatty = lambda: True\n"
        "sys.exit(grape.run(['search', 'x', '--images', '--url', 'http://127.0.0.1:9']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        "grape search: --images needs the package textual_image: install GRAPE with its extra "
        "'terminal'.\n"
    )
