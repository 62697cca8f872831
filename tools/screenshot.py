"""Takes docs/page.png from a running server: `python -m tools.screenshot [URL]`."""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.support.browser import find

OUT = Path(__file__).parent.parent / "docs" / "page.png"
QUERY = "大象"


def main(url: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(), args=["--no-sandbox"])
        page = browser.new_page(
            base_url=url,
            viewport={"width": 1100, "height": 800},
            color_scheme="light",
            reduced_motion="reduce",  # nothing is on its way
        )
        page.goto(f"/?q={QUERY}")
        page.wait_for_selector("#rewritten-hits li")
        page.wait_for_load_state("networkidle")
        page.screenshot(path=OUT)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
