"""What the page may cost: bytes, time to the first picture, and nothing that jumps."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from service.api.languages import PAGE, STRINGS, languages, page_in
from tests.e2e.conftest import opened_at
from tests.support.grape_server import Server

MOST_BYTES = 100_000
FIRST_PICTURE_MS = 1_000

WATCH = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const { value, hadRecentInput, sources } of list.getEntries()) {
    const moved = sources.map(({ node }) => node?.id || node?.className || node?.nodeName);
    if (!hadRecentInput) window.shifts.push([value, moved]);
  }
}).observe({ type: "layout-shift", buffered: true });
"""


def test_everything_that_a_visit_loads_is_under_100_kb(browser: Browser, server: Server) -> None:
    largest = max(languages(), key=lambda code: len(page_in("index.html", code).encode()))
    with opened_at(browser, server, locale=largest) as page:
        page.goto("/")
        expect(page.locator("#wall a").first).to_be_visible(timeout=20_000)
        page.wait_for_load_state("networkidle")
        sizes: dict[str, int] = page.evaluate(
            "() => Object.fromEntries(['navigation', 'resource']"
            ".flatMap((kind) => performance.getEntriesByType(kind))"
            ".filter(({ name }) => !name.includes('/images'))"
            ".map(({ name, decodedBodySize }) => [name, decodedBodySize]))"
        )
        scripts = {Path(url).name for url in sizes if url.endswith(".js")}
        assert scripts == {file.name for file in PAGE.glob("*.js")}
        assert all(url.startswith(server.url) for url in sizes)  # nothing from elsewhere
        assert 50_000 < sum(sizes.values()) < MOST_BYTES, sizes
    files = [file for file in PAGE.iterdir() if file.is_file()]
    assert sum(file.stat().st_size for file in files) < MOST_BYTES
    assert max(file.stat().st_size for file in STRINGS.iterdir()) < 8_000


def test_the_first_picture_is_there_within_a_second(browser: Browser, server: Server) -> None:
    took = []
    for _ in range(3):  # the machine may be busy with something else
        with opened_at(browser, server) as page:
            page.goto("/")
            page.wait_for_function(
                "() => [...document.querySelectorAll('#wall img')]"
                ".some((one) => one.complete && one.naturalWidth)"
            )
            took.append(page.evaluate(
                "Math.min(...performance.getEntriesByType('resource')"
                ".filter((one) => one.initiatorType === 'img' && one.name.includes('/images/'))"
                ".map((one) => one.responseEnd))"
            ))  # fmt: skip
    assert min(took) < FIRST_PICTURE_MS, took


def shifts(page: Page) -> list[object]:
    page.wait_for_timeout(500)
    found: list[object] = page.evaluate("window.shifts")
    return found


@pytest.mark.parametrize("width", [1100, 360])
@pytest.mark.parametrize("address", ["/?q=大象", "/?q=red+apple", "/?q=fernseher&rerank=true"])
def test_nothing_jumps_when_hits_arrive(
    browser: Browser, server: Server, address: str, width: int
) -> None:
    with opened_at(browser, server, viewport={"width": width, "height": 800}) as page:
        page.add_init_script(WATCH)
        page.goto(address)
        expect(page.locator("#rewritten-hits li")).to_have_count(12, timeout=20_000)
        assert shifts(page) == []


@pytest.mark.parametrize("locale", ["en", "ar"])
def test_nothing_jumps_when_the_gallery_arrives(
    browser: Browser, server: Server, locale: str
) -> None:
    with opened_at(browser, server, locale=locale) as page:
        page.add_init_script(WATCH)
        page.goto("/")
        expect(page.locator("#wall a").first).to_be_visible(timeout=20_000)
        page.mouse.wheel(0, 3000)
        page.wait_for_timeout(1_000)
        assert shifts(page) == []


def test_the_watch_sees_what_jumps(page: Page) -> None:
    page.add_init_script(WATCH)
    page.goto("/?q=red+apple&rewrite=never")
    expect(page.locator("#rewritten-hits li")).to_have_count(12, timeout=20_000)
    page.evaluate("document.querySelector('header').style.paddingTop = '200px'")
    assert shifts(page)
