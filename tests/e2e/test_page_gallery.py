"""What the page shows before a search: gallery, examples, recent searches; and its addresses."""

import json
import re
import shlex
import subprocess
from urllib.parse import parse_qs, urlparse

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import opened_at
from tests.e2e.test_docs import ROOT, check_shown, shell_lines
from tests.support.grape_server import Server

TOTAL = 1625


def test_all_pictures_can_be_seen_but_few_are_in_the_document(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_role("heading", name="1,625 pictures")).to_be_visible(timeout=20_000)
    expect(page.locator("#gallery-models")).to_contain_text("rewrites the queries")
    wall = page.get_by_role("list", name="1,625 pictures")
    seen: set[int] = set()
    for part in range(12):
        page.evaluate("(share) => scrollTo(0, share * document.body.scrollHeight)", part / 11)
        page.wait_for_timeout(150)  # until it is drawn
        page.wait_for_function(
            "() => [...document.querySelectorAll('#wall li')].length > 20 &&"
            "[...document.querySelectorAll('#wall li')].every((item) => item.firstChild)"
        )
        places = wall.locator("li").evaluate_all("all => all.map(one => one.ariaPosInSet)")
        assert len(places) < 250
        assert [int(place) for place in places] == sorted(map(int, places))
        seen |= set(map(int, places))
    assert {1, TOTAL} <= seen
    assert wall.locator("li").first.get_attribute("aria-setsize") == str(TOTAL)
    page.wait_for_function(
        "() => [...document.querySelectorAll('#wall img')].some((one) => one.naturalWidth)"
    )


def test_the_keyboard_reaches_every_picture(page: Page) -> None:
    page.goto("/")
    first = page.locator("#wall a").first
    expect(first).to_be_visible(timeout=20_000)
    assert page.locator("#wall a[tabindex='0']").count() == 1  # one stop of the Tab key
    first.focus()

    def at() -> int:
        return int(page.evaluate("document.activeElement.parentElement.ariaPosInSet"))

    def press(key: str) -> int:
        before = at()
        page.keyboard.press(key)
        page.wait_for_function(
            "(before) => document.activeElement.closest('#wall li')?.ariaPosInSet != before",
            arg=str(before),
        )
        return at()

    assert press("ArrowRight") == 2
    assert press("ArrowLeft") == 1
    columns = press("ArrowDown") - 1
    assert columns > 4
    assert press("ArrowUp") == 1
    assert press("PageDown") > 2 * columns
    assert press("End") == TOTAL
    assert press("Home") == 1
    press("End")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert at() == TOTAL  # the focus is back where it was


def test_right_to_left_the_arrows_follow_the_eye(browser: Browser, server: Server) -> None:
    with opened_at(browser, server, locale="ar") as page:
        page.goto("/")
        expect(page.locator("#wall a").nth(1)).to_be_visible(timeout=20_000)
        first, second = (page.locator("#wall a").nth(n).bounding_box() for n in (0, 1))
        assert first
        assert second
        assert first["x"] > second["x"]
        page.locator("#wall a").first.focus()
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#wall a").nth(1)).to_be_focused()


def test_examples_take_turns_until_the_page_is_used(page: Page) -> None:
    page.clock.install()
    page.goto("/")
    expect(page.locator("#wall a").first).to_be_visible(timeout=20_000)
    examples = page.get_by_role("group", name="Examples").get_by_role("button")
    shown = examples.all_inner_texts()
    languages = examples.evaluate_all("all => all.map(one => one.lang)")
    assert len(set(languages)) == len(shown)
    page.clock.run_for(6_500)
    then = examples.all_inner_texts()
    assert then != shown
    page.get_by_role("button", name="Pause the examples").click()
    page.mouse.move(0, 0)
    page.clock.run_for(60_000)
    assert examples.all_inner_texts() == then
    page.get_by_role("button", name="Pause the examples").click()
    page.get_by_label("What are you looking for?").fill("a")
    page.clock.run_for(60_000)
    assert examples.all_inner_texts() == then


def test_whoever_wants_no_motion_gets_one_set_of_examples(page: Page) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.clock.install()
    page.goto("/")
    examples = page.get_by_role("group", name="Examples").get_by_role("button")
    shown = examples.all_inner_texts()
    page.clock.run_for(60_000)
    assert examples.all_inner_texts() == shown
    expect(page.locator("#examples-pause")).to_be_hidden()


@pytest.mark.slow
def test_every_example_finds_its_picture(server: Server) -> None:
    script = server.client.get("/static/examples.js").text
    sets = re.findall(r"\{\s*(de: .*?),?\s*\}", script, re.DOTALL)
    assert len(sets) > 1
    for each in sets:
        for lang, query in re.findall(r'(\w\w): "([^"]*)"', each):
            found = server.search(query, k=3)["hits"]
            assert isinstance(found, list)
            names = [hit["metadata"]["names"][lang] for hit in found]
            assert any(query.casefold() in name.casefold() for name in names), (query, names)


def test_recent_searches_stay_on_this_device(browser: Browser, server: Server) -> None:
    with opened_at(browser, server) as page:
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.url + (request.post_data or "")))
        page.goto("/?q=not+typed+here&rewrite=never")  # a link is no search of the reader's
        for query in ("red heart", "horse", "red heart"):
            page.get_by_label("What are you looking for?").fill(query)
            page.keyboard.press("Enter")
            expect(page.locator("#status")).to_contain_text(query, timeout=20_000)
        page.get_by_role("button", name="Recent searches").click()
        recent = page.get_by_role("region", name="Recent searches").get_by_role("link")
        assert recent.all_inner_texts() == ["red heart", "horse"]
        recent.nth(1).click()
        expect(page.locator("#original-text")).to_have_text("horse", timeout=20_000)
        assert parse_qs(urlparse(page.url).query) == {"q": ["horse"], "rewrite": ["never"]}
        assert not [one for one in sent if "recent" in one and "static" not in one]
        page.get_by_role("button", name="Recent searches").click()
        page.get_by_role("button", name="Clear history").click()
        expect(page.get_by_text("No searches yet.")).to_be_visible()
        assert page.evaluate("localStorage.getItem('grape.recent')") == "[]"
        page.get_by_label("Remember my searches on this device").uncheck()
        page.get_by_label("What are you looking for?").fill("dragon")
        page.keyboard.press("Enter")
        expect(page.locator("#status")).to_contain_text("dragon", timeout=20_000)
        assert page.evaluate("localStorage.getItem('grape.recent')") == "[]"
        page.reload()
        expect(page.locator("#recent-keep")).not_to_be_checked()


@pytest.mark.parametrize("kept", ["{", '"text"', "null", "[3]"])
def test_a_history_that_cannot_be_read_is_none(page: Page, kept: str) -> None:
    page.add_init_script(f"localStorage.setItem('grape.recent', {kept!r})")
    page.goto("/?q=horse&rewrite=never")
    expect(page.locator("#rewritten-hits li")).to_have_count(12, timeout=20_000)


def test_an_open_picture_is_an_address(page: Page) -> None:
    page.goto("/?q=horse&rewrite=never")
    hit = page.locator("#rewritten-hits a").first
    expect(hit).to_be_visible(timeout=20_000)
    name = hit.inner_text().strip()
    hit.click()
    dialog = page.get_by_role("dialog", name=name, exact=True)
    expect(dialog).to_be_visible()
    address = page.url
    assert "open=" in address
    searched = page.evaluate("performance.getEntriesByType('resource').length")
    page.go_back()
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page).not_to_have_url(re.compile("open="))
    page.go_forward()
    expect(dialog).to_be_visible()
    hits = page.locator("#rewritten-hits li")
    expect(hits).to_have_count(12)
    assert page.evaluate("performance.getEntriesByType('resource').length") < searched + 30
    page.goto(address)
    expect(dialog).to_be_visible(timeout=20_000)
    expect(dialog.get_by_role("rowheader", name="file")).to_be_visible()
    expect(hits).to_have_count(12, timeout=20_000)
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()
    expect(page).not_to_have_url(re.compile("open="))
    assert "q=horse" in page.url


def test_from_one_picture_to_the_next_like_it(page: Page) -> None:
    page.goto("/?open=1F418")
    dialog = page.get_by_role("dialog", name="elephant", exact=True)
    expect(dialog).to_be_visible(timeout=20_000)
    similar = dialog.get_by_role("list", name="Similar pictures").get_by_role("link")
    expect(similar).to_have_count(8, timeout=20_000)
    name = similar.first.get_attribute("title") or ""
    assert name != "elephant"
    similar.first.click()
    expect(page.get_by_role("dialog", name=name, exact=True)).to_be_visible()
    assert "open=1F418" not in page.url
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page).not_to_have_url(re.compile(r"\?"))
    expect(page.locator("#wall a").first).to_be_visible()


def test_the_language_is_switched_and_stays(browser: Browser, server: Server) -> None:
    with opened_at(browser, server, locale="de-DE") as page:
        page.goto("/?q=horse&rewrite=never")
        expect(page.get_by_label("Was suchen Sie?")).to_have_value("horse")
        expect(page.locator("#why")).to_have_text("Nicht verlangt.", timeout=20_000)
        page.get_by_label("Sprache").select_option("fa")
        expect(page.locator("html")).to_have_attribute("dir", "rtl")
        expect(page.locator("#original-text")).to_have_text("horse", timeout=20_000)
        expect(page.locator("#rewritten-hits .score").first).to_contain_text(re.compile("[۰-۹]"))
        page.goto("/")
        expect(page.get_by_role("heading", name="۱٬۶۲۵ تصویر")).to_be_visible(timeout=20_000)


def test_pictures_move_from_where_they_were_as_typed(page: Page) -> None:
    page.goto("/?q=red+apple&rewrite=always")
    expect(page.locator("#rewritten-hits li")).to_have_count(12, timeout=20_000)
    typed = page.locator("#original-hits li").evaluate_all("all => all.map(one => one.dataset.id)")
    both = 0
    for item in page.locator("#rewritten-hits li").all():
        picture, badge = item.get_attribute("data-id"), item.locator(".change")
        rank = 1 + page.locator("#rewritten-hits li").evaluate_all(
            "(all, id) => all.findIndex(one => one.dataset.id === id)", picture
        )
        if picture not in typed:
            assert badge.inner_text() == "new"
            continue
        both += 1
        before = typed.index(picture) + 1
        told = badge.inner_text() if badge.count() else ""
        assert told == (
            "" if before == rank else f"{'▲' if rank < before else '▼'} {abs(before - rank)}"
        )
        item.hover()
        pointed = page.locator("li.pointed")
        expect(pointed).to_have_count(2)
        expect(page.locator("#way.shown path")).to_have_attribute("d", re.compile("^M[0-9]"))
    assert both
    page.mouse.move(0, 0)
    expect(page.locator("#way.shown")).to_have_count(0)


def test_the_commands_of_the_docs_answer_as_shown(server: Server) -> None:
    text = (ROOT / "docs" / "page.md").read_text()
    shown = re.search(r"<!-- images -->\n```json\n(.*?)```", text, re.DOTALL)
    assert shown
    lines = [line.replace("http://127.0.0.1:8000", server.url) for line in shell_lines(text)]
    images, facets = (
        json.loads(subprocess.run(shlex.split(line), capture_output=True, check=True).stdout)
        for line in lines
    )
    check_shown(json.loads(shown[1]), images)
    assert facets["facets"] == []
