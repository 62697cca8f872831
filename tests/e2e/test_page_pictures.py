"""Searches that start from a picture, on the page in a real browser."""

import base64
import json
import re
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect


def test_a_hit_is_where_the_next_search_starts(page: Page) -> None:
    page.goto("/?q=red+heart&rewrite=never")
    first = page.locator("#original-hits")
    expect(first.get_by_role("link", name="red heart", exact=True)).to_be_visible(timeout=20_000)
    first.get_by_role("button", name="like this, but … red heart", exact=True).click()
    # The picture alone, at once; the field waits for what is to be different.
    expect(page.locator("#original-title")).to_have_text("Like this picture")
    expect(page.get_by_label("What are you looking for?")).to_be_focused()
    expect(page.locator("#rewritten")).to_be_hidden()
    expect(page.locator("#reference-name")).to_have_text("red heart")
    expect(first.get_by_role("link", name="red heart", exact=True)).to_have_count(0)
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
