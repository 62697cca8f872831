"""The pages that state measured numbers, and how a benchmark replaces them."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
RESULTS = DOCS / "results.md"
PERFORMANCE = DOCS / "performance.md"
MIXTURE = DOCS / "mixture.md"
RERANKING = DOCS / "reranking.md"
INFLATION = DOCS / "inflation.md"
INFLATION_PLOT = DOCS / "inflation.png"


def write_between(page: Path, marker: str, text: str) -> None:
    """Replaces what is between ``<!-- marker -->`` and ``<!-- /marker -->`` in a page."""
    start, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    marked = re.compile(rf"{re.escape(start)}\n.*?{re.escape(end)}", re.DOTALL)
    written, count = marked.subn(lambda _: f"{start}\n{text}\n{end}", page.read_text())
    assert count == 1, f"{page} has {count} places marked {marker!r}"
    page.write_text(written)
