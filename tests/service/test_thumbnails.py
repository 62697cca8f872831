"""`grape search --images` in a terminal: the test plays the terminal, on a pseudo-terminal.

What a search finds is made up; how pictures are read, asked for and shown is real.
"""

import contextlib
import fcntl
import io
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import grape

SIXEL, OTHER = "\x1b[?62;4c", "\x1b[?62c"  # what terminals say that they can do
SHOWN_BY_SIXEL = "\x1bP"
SHOWN_BY_KITTY = chr(0x10EEEE)  # kitty draws the picture in the place of these
SIZE = (40, 120, 1200, 800)  # rows, columns, and both in pixels

# A hit with a picture, one whose file is gone, and one that is broken.
FOUND = """
import sys, grape
from service import asking
hits = [
    {"rank": n, "score": 0.5, "id": name, "metadata": {"file": name}, "found_by": ["query"]}
    for n, name in enumerate(["red.png", "gone.png", "broken.png"], 1)
]
rewrite = {"status": "kept", "reason": "", "texts": [], "probabilities": [], "parts": 1}
asking.ask = lambda *_: {"query": "x", "rewrite": rewrite, "hits": hits, "confident": True}
sys.exit(grape.run(["search", "x", "--images", *sys.argv[1:]]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 48), "red").save(tmp_path / "red.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    return tmp_path


def in_terminal(
    *flags: str, says: str, kitty: bool = False, size: tuple[int, int, int, int] = SIZE
) -> tuple[str, int]:
    """What the search prints on a terminal, and its exit code.

    Args:
        says: what the terminal answers when it is asked for its attributes.
        kitty: whether it also knows kitty's graphics protocol.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size))
    process = subprocess.Popen(
        [sys.executable, "-c", FOUND, *flags], stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    deadline = time.monotonic() + 60
    answers = {b"\x1b[c": says, b"\x1b_Gi=": "\x1b_Gi=1;OK\x1b\\" if kitty else ""}
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
        for question in [question for question in answers if question in part]:
            os.write(ours, answers.pop(question).encode())
    os.close(ours)
    return shown.decode(errors="replace"), process.wait(10)


@pytest.mark.parametrize(
    ("says", "kitty", "picture"),
    [(SIXEL, False, SHOWN_BY_SIXEL), (OTHER, True, SHOWN_BY_KITTY)],
    ids=["sixel", "kitty"],
)
def test_a_terminal_shows_the_pictures_above_their_lines(
    says: str, kitty: bool, picture: str, folder: Path
) -> None:
    shown, code = in_terminal("--pictures", str(folder), says=says, kitty=kitty)
    assert code == 0, shown
    assert shown.index(picture) < shown.index("1  0.500  red.png")
    assert "gone.png: its picture cannot be read" in shown
    assert "a picture that cannot be shown: " in shown
    assert "3  0.500  broken.png" in shown


@pytest.mark.parametrize(
    ("says", "size"), [(OTHER, SIZE), (SIXEL, (0, 0, 0, 0))], ids=["neither", "no size"]
)
def test_a_terminal_that_cannot_is_told_and_has_the_table(
    says: str, size: tuple[int, int, int, int], folder: Path
) -> None:
    shown, code = in_terminal("--pictures", str(folder), says=says, size=size)
    assert code == 0, shown
    assert "this terminal shows no pictures: it knows neither Sixel nor kitty" in shown
    assert SHOWN_BY_SIXEL not in shown
    assert "red.png" in shown


@contextlib.contextmanager
def picture_server() -> Iterator[tuple[str, list[str]]]:
    """A server that has one picture; its address, and the paths that it was asked for."""
    out, asked = io.BytesIO(), []
    Image.new("RGB", (64, 48), "red").save(out, "WEBP")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if "red.png" in self.path else 404)
            self.end_headers()
            self.wfile.write(out.getvalue() if "red.png" in self.path else b"{}")

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def test_pictures_of_a_server_are_fetched_small() -> None:
    with picture_server() as (url, asked):
        shown, code = in_terminal("--url", url, says=SIXEL)
    assert code == 0, shown
    assert shown.count(SHOWN_BY_SIXEL) == 1
    assert asked == [f"/images/{name}.png?size=256" for name in ("red", "gone", "broken")]


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
