"""Filters on the page, over an index with metadata."""

import json
from urllib.parse import parse_qs, urlparse

from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import opened_at
from tests.support.grape_server import Server
from tests.support.photos import COUNT, PLACES


def filter_in(page: Page) -> object:
    (text,) = parse_qs(urlparse(page.url).query).get("filter", ["null"])
    return json.loads(text)


def test_the_gallery_and_the_search_are_filtered(browser: Browser, photos: Server) -> None:
    with opened_at(browser, photos) as page:
        page.goto("/")
        expect(page.get_by_role("heading", name="24 pictures")).to_be_visible(timeout=20_000)
        page.get_by_role("button", name="Filters").click()
        panel = page.get_by_role("region", name="Filters")
        names = panel.get_by_role("group").evaluate_all("all => all.map(one => one.textContent)")
        assert [name.split(next(filter(str.isupper, name), " "))[0] for name in names]
        assert panel.locator("legend").all_inner_texts() == [
            "indoors", "iso", "place", "stars", "taken",
        ]  # fmt: skip
        place = panel.get_by_role("group", name="place")
        assert sorted(place.locator("label span").all_inner_texts()) == sorted(PLACES)
        assert place.locator("small").all_inner_texts() == ["6"] * 4
        place.get_by_label("北京").check()
        expect(page.get_by_role("heading", name="6 of 24 pictures")).to_be_visible()
        panel.get_by_role("group", name="taken").get_by_label("from").fill("2024-06-01")
        expect(page.get_by_role("heading", name="4 of 24 pictures")).to_be_visible()
        wanted = {"place": {"in": ["北京"]}, "taken": {"gte": "2024-06-01"}}
        assert filter_in(page) == wanted
        page.get_by_label("What are you looking for?").fill("red")
        page.keyboard.press("Enter")
        expect(page.locator("#rewritten-hits li")).to_have_count(4, timeout=20_000)
        page.reload()  # the address contains the filter
        expect(page.locator("#rewritten-hits li")).to_have_count(4, timeout=20_000)
        page.get_by_role("button", name="Filters (2)").click()
        expect(place.get_by_label("北京")).to_be_checked()
        page.get_by_role("button", name="Clear filters").click()
        expect(page.locator("#rewritten-hits li")).to_have_count(12, timeout=20_000)
        assert filter_in(page) is None
        page.go_back()
        expect(page.locator("#rewritten-hits li")).to_have_count(4, timeout=20_000)
        expect(place.get_by_label("北京")).to_be_checked()


def test_numbers_and_booleans(browser: Browser, photos: Server) -> None:
    with opened_at(browser, photos) as page:
        page.goto("/")
        page.get_by_role("button", name="Filters").click(timeout=20_000)
        highest = page.get_by_role("group", name="iso").get_by_label("to")
        highest.fill("111")
        highest.press("Tab")
        expect(page.get_by_role("heading", name="12 of 24 pictures")).to_be_visible()
        page.get_by_role("group", name="indoors").get_by_label("yes").check()
        expect(page.get_by_role("heading", name="6 of 24 pictures")).to_be_visible()
        page.get_by_role("group", name="stars").get_by_label("2").check()
        expect(page.get_by_role("heading", name="2 of 24 pictures")).to_be_visible()
        assert filter_in(page) == {
            "iso": {"lte": 111}, "indoors": {"in": [True]}, "stars": {"in": [2]},
        }  # fmt: skip


def test_an_address_may_use_all_of_the_filters_language(browser: Browser, photos: Server) -> None:
    with opened_at(browser, photos) as page:
        page.goto('/?filter={"any":[{"place":"Oslo"},{"iso":{"gt":122}}]}')
        expect(page.get_by_role("heading", name="7 of 24 pictures")).to_be_visible(timeout=20_000)
        page.goto('/?filter={"plaice":"Oslo"}')
        expect(page.get_by_role("heading", name="did you mean 'place'?")).to_be_visible()
        page.goto("/?filter=nonsense")
        expect(page.get_by_role("heading", name=f"{COUNT} pictures")).to_be_visible()


def test_an_index_without_such_metadata_offers_no_filters(page: Page) -> None:
    with page.expect_response("**/facets") as answered:
        page.goto("/")
    assert answered.value.json()["facets"] == []
    expect(page.locator("#filters-toggle")).to_be_hidden()
