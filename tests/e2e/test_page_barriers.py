"""axe-core finds no barrier in any state of the page: light and dark, on a phone, right to left."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import opened_at
from tests.support.axe import barriers
from tests.support.grape_server import Server

DESKTOP, PHONE = {"width": 1100, "height": 800}, {"width": 360, "height": 740}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": PHONE, "has_touch": True},
    "dark phone, right to left": {"viewport": PHONE, "color_scheme": "dark", "locale": "ar"},
    "right to left": {"locale": "fa"},
}


@pytest.fixture(params=LOOKS)
def look(request: pytest.FixtureRequest, browser: Browser, server: Server) -> Iterator[Page]:
    with opened_at(browser, server, **LOOKS[request.param]) as page:
        yield page


def gallery(page: Page) -> None:
    page.goto("/")
    expect(page.locator("#wall a").first).to_be_visible(timeout=20_000)


def recent(page: Page) -> None:
    page.goto("/")
    page.locator("#query").fill("horse")
    page.locator("#query").press("Enter")
    expect(page.locator("#rewritten-hits li")).to_have_count(12, timeout=20_000)
    page.locator("#recent-toggle").click()
    expect(page.locator("#recent a")).to_have_count(1)


def rewritten(page: Page) -> None:
    page.goto("/?q=大象&rerank=true")
    expect(page.locator("#rewritten-hits li")).to_have_count(12, timeout=20_000)


def pointed(page: Page) -> None:
    page.goto("/?q=red+apple&rewrite=never")
    expect(page.locator("#rewritten-hits li")).to_have_count(12, timeout=20_000)
    page.locator("#rewritten-hits a").first.focus()
    expect(page.locator(".pointed")).to_have_count(2)


def unsure(page: Page) -> None:
    page.goto("/?q=zzyzx+quux+blorp&rewrite=never")
    expect(page.locator("#unsure")).to_be_visible(timeout=20_000)


def from_a_picture(page: Page) -> None:
    page.goto("/?like=1F418")
    expect(page.locator("#original-hits li")).to_have_count(12, timeout=20_000)


def changed(page: Page) -> None:
    page.goto("/?like=2764&q=mais+en+bleu")
    expect(page.locator("#rewritten-hits li")).to_have_count(12, timeout=20_000)


def opened(page: Page) -> None:
    page.goto("/?q=horse&rewrite=never&open=1F418")
    expect(page.locator("#opened-alike li")).to_have_count(8, timeout=20_000)


def failed(page: Page) -> None:
    page.route("**/search", lambda route: route.abort())
    page.goto("/?q=horse")
    expect(page.locator("#status.warning")).to_be_visible()


STATES: list[Callable[[Page], None]] = [
    gallery, recent, rewritten, pointed, unsure, from_a_picture, changed, opened, failed,
]  # fmt: skip


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_no_state_has_a_barrier(look: Page, state: Callable[[Page], None]) -> None:
    state(look)
    assert barriers(look) == []
    assert look.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("name", LOOKS)
def test_filters_have_none(browser: Browser, photos: Server, name: str) -> None:
    with opened_at(browser, photos, **LOOKS[name]) as page:
        page.goto('/?filter={"place":{"in":["Oslo"]}}')
        page.locator("#filters-toggle").click(timeout=20_000)
        expect(page.locator("#facets fieldset")).to_have_count(5, timeout=20_000)
        assert barriers(page) == []


def test_the_login_has_none(browser: Browser, tmp_path: Path) -> None:
    key = "a-key-of-these-tests-0123456789"
    server = Server(tmp_path / "log", "--llm", "none", "--api-keys", key)
    try:
        for look in LOOKS.values():
            context = browser.new_context(base_url=server.url, **look)
            page = context.new_page()
            asked = page.goto("/")
            assert asked
            assert asked.status == 401
            assert barriers(page) == []
            context.close()
    finally:
        server.stop()


def test_barriers_would_be_found(page: Page) -> None:
    gallery(page)
    page.evaluate("document.querySelector('label[for=query]').remove()")
    page.evaluate("document.body.style.color = '#999'")
    found = barriers(page)
    assert any(line.startswith("color-contrast") for line in found), found
