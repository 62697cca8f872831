"""The pages that state measured numbers, and how a benchmark replaces them."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "docs" / "results.md"
PERFORMANCE = ROOT / "docs" / "performance.md"
INFLATION = ROOT / "docs" / "inflation.md"
INFLATION_PLOT = ROOT / "docs" / "inflation.png"


def write_between(page: Path, marker: str, text: str) -> None:
    """Replaces what is between ``<!-- marker -->`` and ``<!-- /marker -->`` in a page."""
    start, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    marked = re.compile(rf"{re.escape(start)}\n.*?{re.escape(end)}", re.DOTALL)
    written, count = marked.subn(lambda _: f"{start}\n{text}\n{end}", page.read_text())
    assert count == 1, f"{page} has {count} places marked {marker!r}"
    page.write_text(written)
