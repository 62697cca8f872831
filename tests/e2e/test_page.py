"""The page in a real browser."""

import base64
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from tests.support.browser import find
from tests.support.grape_server import Server

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
# Tests cut requests off, send bad ones and play a server that is still loading.
EXPECTED = ("net::ERR_FAILED", "status of 422", "status of 503")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=find(), args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    opened = browser.new_page(base_url=server.url, viewport={"width": 1100, "height": 800})
    problems: list[str] = []

    def note(kind: str, text: str) -> None:
        # A request that a test itself spoils is reported by the browser as well.
        if kind == "error" and not any(sign in text for sign in EXPECTED):
            problems.append(text)

    opened.on("console", lambda m: note(m.type, m.text))
    opened.on("pageerror", lambda error: problems.append(str(error)))
    yield opened
    opened.close()
    assert problems == []


def test_a_chinese_query_finds_the_picture(page: Page) -> None:
    page.goto("/")
    page.get_by_label("What are you looking for?").fill("大象")
    page.keyboard.press("Enter")
    rewritten = page.get_by_role("region", name="Rewritten")
    expect(rewritten.get_by_role("img", name="elephant", exact=True)).to_be_visible(timeout=20_000)
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
    expect(page.get_by_role("button", name="Search")).to_be_focused()
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


def test_a_hit_is_where_the_next_search_starts(page: Page) -> None:
    page.goto("/?q=red+heart&rewrite=never")
    first = page.locator("#original-hits")
    expect(first.get_by_role("img", name="red heart", exact=True)).to_be_visible(timeout=20_000)
    first.get_by_role("button", name="More like red heart", exact=True).click()
    # The picture alone, at once; the field waits for what is to be different.
    expect(page.locator("#original-title")).to_have_text("Like this picture")
    expect(page.get_by_label("What are you looking for?")).to_be_focused()
    expect(page.locator("#rewritten")).to_be_hidden()
    expect(page.locator("#reference-name")).to_have_text("red heart")
    expect(first.get_by_role("img", name="red heart", exact=True)).to_have_count(0)
    page.get_by_role("radio", name="when it helps").check()
    page.get_by_label("What are you looking for?").fill("mais en bleu")
    page.keyboard.press("Enter")
    expect(page.locator("#rewritten-hits li")).to_have_count(12, timeout=20_000)
    expect(page.locator("#why")).to_have_text("A picture to be changed: red heart.")
    wrote = page.locator("#rewritten-text li").first.inner_text().rpartition(" ")[0]
    expect(page.locator("#rewritten-hits .source").first).to_have_text(f"by “{wrote}”")
    assert "like=2764" in page.url
    # The address contains the whole search.
    page.reload()
    expect(page.locator("#rewritten-hits li")).to_have_count(12, timeout=20_000)
    page.get_by_role("button", name="Remove the picture").click()
    expect(page.locator("#reference")).to_be_hidden()
    expect(page.locator("#original-title")).to_have_text("As typed", timeout=20_000)


@pytest.fixture
def red_square(tmp_path: Path) -> Path:
    file = tmp_path / "mine.png"
    Image.new("RGB", (200, 200), "#ea5a47").save(file)  # as red as the demo's drawings
    return file


def found_from_a_file(page: Page) -> None:
    expect(page.locator("#original-title")).to_have_text("Like this picture", timeout=20_000)
    expect(page.locator("#original-hits li")).to_have_count(12)
    expect(page.locator("#reference-image")).to_have_attribute("src", re.compile("^data:image/png"))
    assert page.evaluate("document.getElementById('reference-image').naturalWidth") == 200
    assert "like=" not in page.url  # a file of the user's is in no address


def test_a_search_starts_from_a_chosen_file(page: Page, red_square: Path) -> None:
    page.goto("/")
    page.get_by_label("Start from a picture").set_input_files(red_square)
    found_from_a_file(page)
    expect(page.locator("#reference-name")).to_have_text("mine.png")


def test_a_search_from_a_file_is_copied_as_a_command_that_reads_it(
    page: Page, red_square: Path
) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/")
    page.get_by_label("Start from a picture").set_input_files(red_square)
    found_from_a_file(page)
    page.get_by_role("button", name="Copy as curl").click()
    expect(page.get_by_role("status")).to_contain_text("clipboard")
    command = page.evaluate("navigator.clipboard.readText()").replace("PICTURE", str(red_square))
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert len(json.loads(done.stdout)["hits"]) == 12


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_search_starts_from_a_dropped_or_pasted_file(
    page: Page, red_square: Path, way: str
) -> None:
    page.goto("/")
    data = base64.b64encode(red_square.read_bytes()).decode()
    page.evaluate(
        """([way, data]) => {
          const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
          const carried = new DataTransfer();
          carried.items.add(new File([bytes], "mine.png", { type: "image/png" }));
          const event = way === "drop"
            ? new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true })
            : new ClipboardEvent("paste", { clipboardData: carried, bubbles: true });
          document.body.dispatchEvent(event);
        }""",
        [way, data],
    )
    found_from_a_file(page)


def test_a_file_that_is_no_picture_is_reported(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "letter.png"
    file.write_text("no picture")
    page.goto("/")
    with page.expect_response("**/search") as answered:
        page.get_by_label("Start from a picture").set_input_files(file)
    assert answered.value.status == 422
    expect(page.get_by_role("status")).to_contain_text("not a JPEG, PNG")


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
