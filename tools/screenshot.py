"""Makes docs/page.png from a running server: `python -m tools.screenshot [URL]`."""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.support.browser import find

OUT = Path(__file__).parent.parent / "docs" / "page.png"


def main(url: str, out: Path, width: int, height: int, scheme: str, query: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(), args=["--no-sandbox"])
        page = browser.new_page(
            base_url=url,
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]
        )
        page.goto(f"/?q={query}")
        page.wait_for_selector("#rewritten-hits li")
        page.wait_for_load_state("networkidle")
        page.screenshot(path=out)
        browser.close()


if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
    main(address, OUT, 1100, 800, "light", "大象")
