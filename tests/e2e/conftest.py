from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.browser import find
from tests.support.grape_server import Server
from tests.support.photos import serving

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
# Tests cut requests off, send bad ones and play a server that is still loading.
EXPECTED = ("net::ERR_FAILED", "status of 422", "status of 503")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The demo as `make demo` serves it: real vLLM, encoder, FAISS and HTTP."""
    started = Server(tmp_path_factory.mktemp("server") / "log")
    try:
        started.wait_until_ready()
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module")  # its event loop would stop asyncio tests elsewhere
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=find(), args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A small index with metadata, without a language model."""
    with serving(tmp_path_factory.mktemp("photos")) as started:
        yield started


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    with opened_at(browser, server) as opened:
        yield opened


@contextmanager
def opened_at(browser: Browser, server: Server, **wishes: Any) -> Iterator[Page]:
    """A page of the server in a browser of its own; errors in its console fail the test."""
    viewport = {"width": 1100, "height": 800}
    context = browser.new_context(**{"base_url": server.url, "viewport": viewport, **wishes})
    opened = context.new_page()
    problems: list[str] = []

    def note(kind: str, text: str) -> None:
        # A request that a test itself spoils is reported by the browser as well.
        if kind == "error" and not any(sign in text for sign in EXPECTED):
            problems.append(text)

    opened.on("console", lambda m: note(m.type, m.text))
    opened.on("pageerror", lambda error: problems.append(str(error)))
    yield opened
    context.close()
    assert problems == []
