"""docs/commands.md is what the settings say."""

from grape import COMMANDS
from tools.commands_page import PAGE, page


def test_the_page_is_up_to_date() -> None:
    written = PAGE.read_text(encoding="utf-8")
    assert written == page(), "run `python -m tools.commands_page`"


def test_the_page_has_every_command_and_its_flags() -> None:
    sections = page().split("\n## ")[1:]
    assert [section.splitlines()[0] for section in sections] == [
        f"grape {name}" for name in COMMANDS
    ]
    search = next(section for section in sections if section.startswith("grape search\n"))
    assert "| `-k N` | maximum number of hits | `10` |" in search
    assert r"| `--rewrite auto\|always\|never` |" in search
    assert "| `[QUERY]` |" in search
    assert "--max-in-flight" not in search
    captions = next(one for one in sections if one.startswith("grape data from-captions"))
    assert "| required |" in captions
