"""What the docs point at exists: links, anchors, and files and modules of this repository."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("docs", "models", "service", "training", "tests", "benchmarks", "deploy", "tools")
PAGES = sorted(
    [*ROOT.glob("*.md"), *(page for name in FOLDERS for page in (ROOT / name).rglob("*.md"))]
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
# `models/search/gate.py`, `docs/decisions/`
FILE = re.compile(
    r"`((?:models|service|training|tests|benchmarks|tools|docs|deploy)/[\w./-]*[\w/])`"
)
MODULE = re.compile(r"\b(?:from|import|python -m) ((?:models|service|training|benchmarks)[\w.]*)")
OLD_PATHS = ROOT / "CHANGELOG.md"  # names modules as they were called before


def prose(page: Path) -> str:
    """The page without its code blocks, where brackets are no links."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """GitHub's ids of the headings: lower case, no punctuation, spaces as hyphens."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{link}: there is no such file"
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_and_modules_that_are_named_exist(page: Path) -> None:
    if page == OLD_PATHS:
        return
    for name in FILE.findall(page.read_text()):
        assert (ROOT / name).exists(), f"{name} does not exist"
    for module in MODULE.findall(page.read_text()):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or path.is_dir(), f"{module} does not exist"


def test_every_page_is_reached_from_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    listed = {(index.parent / link).resolve() for link in LINK.findall(prose(index))}
    assert set((ROOT / "docs").glob("*.md")) - {index} <= listed
    decisions = ROOT / "docs" / "decisions" / "README.md"
    listed = {(decisions.parent / link).resolve() for link in LINK.findall(prose(decisions))}
    assert set(decisions.parent.glob("*.md")) - {decisions} <= listed


def test_every_decision_has_its_form() -> None:
    """A title, then Decision with its date, then Why."""
    for page in (ROOT / "docs" / "decisions").glob("*.md"):
        for entry in page.read_text().split("\n## ")[1:]:
            form = r".+\n\n\*\*Decision\*\* \(\d{4}-\d\d-\d\d\)\. .+?\n\n\*\*Why\.\*\* "
            assert re.match(form, entry, re.DOTALL), f"{page.name}: {entry.splitlines()[0]}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130
