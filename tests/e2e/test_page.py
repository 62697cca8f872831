"""The page in a real browser."""

import json
import re
import shlex
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.support.grape_server import Server


def test_a_chinese_query_finds_the_picture(page: Page) -> None:
    page.goto("/")
    page.get_by_label("What are you looking for?").fill("大象")
    page.keyboard.press("Enter")
    rewritten = page.get_by_role("region", name="Rewritten")
    expect(rewritten.get_by_role("link", name="elephant", exact=True)).to_be_visible(timeout=20_000)
    expect(page.locator("#rewritten-text")).to_contain_text("elephant")
    expect(page.locator("#original-text")).to_have_text("大象")
    expect(page.locator("#original-hits li")).to_have_count(12)
    expect(page.locator("#timings")).to_contain_text("rewrite")
    page.wait_for_function(
        "() => [...document.querySelectorAll('#rewritten-hits img')].slice(0, 4)"
        ".every(image => image.complete && image.naturalWidth > 0)"
    )


def test_examples_and_the_address(page: Page) -> None:
    page.goto("/")
    page.get_by_role("button", name="caballo").click()
    expect(page.locator("#rewritten-text")).to_contain_text("horse", timeout=20_000)
    assert "q=caballo" in page.url
    page.get_by_role("button", name="red apple").click()
    expect(page.get_by_role("heading", name="Not rewritten")).to_be_visible(timeout=20_000)
    page.go_back()
    expect(page.locator("#original-text")).to_have_text("caballo", timeout=20_000)


def test_each_rewrite_has_its_probability_and_hits_name_their_own(page: Page) -> None:
    page.goto("/?q=Geschenk")
    expect(page.locator("#rewritten-hits li")).to_have_count(12, timeout=20_000)
    lines = filter(None, page.locator("#rewritten-text li").all_inner_texts())
    texts, shares = zip(*(line.rsplit(" ", 1) for line in lines), strict=True)
    found = [float(share.removesuffix("%")) for share in shares]
    assert found == sorted(found, reverse=True)
    assert len(found) <= 4  # the others are folded away
    if (more := page.locator("#rewritten-text summary")).count():
        more.click()
        every = page.locator("#rewritten-text li").all_inner_texts()
        texts = tuple(line.rsplit(" ", 1)[0] for line in every)
        assert more.inner_text() == f"{len(texts) - 4} more"
    named = set(page.locator("#rewritten-hits .source").all_inner_texts())
    assert named <= {"by query", *(f"by “{text}”" for text in texts)}
    for score in page.locator("#rewritten-hits .score").all_inner_texts():
        assert re.fullmatch(r"\d+(\.\d)?%", score)


@pytest.mark.parametrize("sure", [True, False])
def test_a_hint_says_when_no_picture_is_sure(page: Page, sure: bool) -> None:
    def answer(route: Route) -> None:
        told = route.fetch()
        before, _, data = told.text().strip().rpartition("data: ")
        data = json.dumps(json.loads(data) | {"confident": sure})
        route.fulfill(response=told, body=f"{before}data: {data}\n\n")

    page.route("**/search", answer)
    page.goto("/?q=red+heart&rewrite=never")
    expect(page.locator("#rewritten-hits li")).to_have_count(12, timeout=20_000)
    expect(page.locator("#unsure")).to_be_visible(visible=not sure)
    page.unroute("**/search")


def test_keyboard_alone(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_label("What are you looking for?")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Search", exact=True)).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("radio", name="when it helps")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("checkbox", name="rerank the first hits")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Start from a picture")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#original-text")).not_to_be_empty(timeout=20_000)


def test_the_mode_is_chosen_and_kept_in_the_address(page: Page) -> None:
    page.goto("/?q=caballo&rewrite=never")
    expect(page.get_by_role("radio", name="never")).to_be_checked()
    expect(page.locator("#why")).to_have_text("Not requested.", timeout=20_000)
    page.get_by_role("radio", name="always").check()
    expect(page.locator("#rewritten-text")).to_contain_text("horse", timeout=20_000)
    assert "rewrite=always" in page.url


def test_reranked_hits_move_and_show_both_ranks(page: Page) -> None:
    page.goto("/?q=fernseher")
    expect(page.locator("#rewritten-hits li")).to_have_count(12, timeout=20_000)
    assert page.locator(".moved").count() == 0
    page.get_by_role("checkbox", name="rerank the first hits").check()
    page.wait_for_function(
        "() => document.getElementById('rewritten-hits').getAnimations({ subtree: true }).length",
        timeout=20_000,
    )
    expect(page.locator("#timings")).to_contain_text("rerank")
    shown = [text.split() for text in page.locator(".moved").all_inner_texts()]
    assert shown
    for arrow, before, _, after in shown:
        assert (arrow == "▲") == (int(after) < int(before))
        hit = page.locator("#rewritten-hits li").nth(int(after) - 1)
        expect(hit.locator(".moved")).to_have_text(f"{arrow} {before} → {after}")
    assert "rerank=true" in page.url
    # The address contains the choice. Whoever wants no motion gets none.
    page.emulate_media(reduced_motion="reduce")
    page.reload()
    expect(page.locator(".moved")).to_have_count(len(shown), timeout=20_000)
    assert not page.evaluate("document.getAnimations().length")


def test_the_page_says_why_hits_were_not_reranked(page: Page) -> None:
    page.goto("/?q=animal+without+a+tail&rerank=true")
    why = page.locator("#why")
    expect(why).to_contain_text("Not reranked: the query says what is not wanted", timeout=20_000)


def test_pictures_are_there_before_the_rewrite(page: Page) -> None:
    """The server's own events, read one after the other."""
    page.goto("/")
    page.evaluate(
        "() => { window.states = []; new MutationObserver(() => window.states.push(["
        "document.querySelectorAll('#original-hits li').length,"
        "document.querySelectorAll('#rewritten-hits li').length,"
        "document.getElementById('rewritten-title').textContent]))"
        ".observe(document.body, { childList: true, subtree: true }); }"
    )
    page.get_by_role("button", name="велосипед").click()
    expect(page.locator("#rewritten-hits li")).to_have_count(12, timeout=20_000)
    assert [12, 0, "Rewriting …"] in page.evaluate("() => window.states")


def test_a_search_is_copied_as_curl(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/?q=l'éléphant")
    page.get_by_role("button", name="Copy as curl").click(timeout=20_000)
    expect(page.get_by_role("status")).to_contain_text("clipboard")
    command = page.evaluate("navigator.clipboard.readText()")
    curl, url, _, header, _, body = shlex.split(command)  # as a shell would
    assert curl == "curl"
    answer = httpx.post(url, content=body, headers=dict([header.split(": ")]), timeout=60)
    assert answer.json()["query"] == "l'éléphant"


def test_markup_in_a_query_is_text(page: Page) -> None:
    page.goto("/?q=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E")
    expect(page.locator("#original-text")).to_have_text(
        "<img src=x onerror=alert(1)>", timeout=20_000
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(page: Page, scheme: str) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto("/?q=caballo")
    expect(page.locator("#rewritten-hits li")).to_have_count(12, timeout=20_000)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 360
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(23, 19, 26)") == (scheme == "dark")


def test_an_error_is_shown_and_not_thrown(page: Page) -> None:
    page.route("**/search", lambda route: route.abort())
    page.goto("/")
    page.get_by_role("button", name="caballo").click()
    expect(page.get_by_role("status")).to_have_text("The server cannot be reached.")
    page.unroute("**/search")


def test_a_page_that_is_opened_while_the_server_loads_waits_for_it(page: Page) -> None:
    loading = {"error": "Encoder and index are still loading.", "type": "unavailable"}
    page.route("**/search", lambda route: route.fulfill(status=503, json=loading), times=1)
    page.goto("/?q=horse&rewrite=never")
    expect(page.get_by_role("status")).to_have_text(loading["error"])
    expect(page.get_by_role("status")).to_contain_text("12 pictures", timeout=10_000)


def test_a_hit_opens_with_all_that_is_known_about_it(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/?q=大象")
    hits = page.locator("#rewritten-hits")
    expect(hits.locator("li")).to_have_count(12, timeout=20_000)
    hits.get_by_role("link", name="elephant", exact=True).click()
    dialog = page.get_by_role("dialog", name="elephant", exact=True)
    expect(dialog).to_be_visible()
    expect(dialog.get_by_role("img", name="elephant", exact=True)).to_be_visible()
    page.wait_for_function("() => document.getElementById('opened-image').naturalWidth > 160")
    expect(dialog.locator("#opened-where")).to_contain_text("Rewritten: rank 1.")
    expect(dialog.locator("#opened-where")).to_contain_text("As typed: ")
    expect(dialog.get_by_role("rowheader", name="file")).to_be_visible()
    expect(dialog.get_by_text("de: Elefant")).to_be_visible()  # one of its names
    dialog.get_by_role("button", name="Copy link").click()
    expect(dialog.get_by_role("status")).to_have_text("The link was copied.")
    assert page.evaluate("navigator.clipboard.readText()").endswith("/?open=1F418")
    with page.expect_download() as saved:
        dialog.get_by_role("link", name="Download").click()
    assert saved.value.suggested_filename == "elephant.webp"
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(hits.get_by_role("link", name="elephant", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    dialog.get_by_role("button", name="like this, but …").click()
    expect(dialog).to_be_hidden()
    expect(page.locator("#reference-name")).to_have_text("elephant")


def test_without_a_folder_for_feedback_there_are_no_marks(page: Page) -> None:
    page.goto("/?q=red+heart&rewrite=never")
    expect(page.locator("#rewritten-hits li")).to_have_count(12, timeout=20_000)
    expect(page.get_by_label("is right").first).to_be_hidden()


@pytest.mark.parametrize(("scheme", "header"), [(0, "authorization"), (1, "x-api-key")])
def test_the_api_docs_send_a_key(
    browser: Browser, tmp_path: Path, scheme: int, header: str
) -> None:
    key = "a-key-of-these-tests-0123456789"
    server = Server(tmp_path / "log", "--llm", "none", "--api-keys", key)
    page = browser.new_page(base_url=server.url)
    try:
        page.goto("/")
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Log in").click()
        for given, status in (("not-a-key-of-this-server", 401), (key, 200)):
            page.goto("/docs")
            page.get_by_role("button", name="Authorize").click()
            form = page.locator(".auth-container").nth(scheme)
            form.get_by_role("textbox").fill(given)
            form.get_by_role("button", name="Apply").click()
            page.get_by_role("button", name="Close").first.click()
            route = page.locator("#operations-default-metrics_metrics_get")
            route.locator(".opblock-summary-control").click()
            route.get_by_role("button", name="Try it out").click()
            with page.expect_response("**/metrics") as answered:
                route.get_by_role("button", name="Execute").click()
            # The key goes before the session's cookie, which would be enough.
            assert answered.value.request.headers[header].endswith(given)
            assert answered.value.status == status
    finally:
        page.close()
        server.stop()
