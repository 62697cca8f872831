"""Queries that say what is not wanted, with the pictures that should not be found.

    python -m training.data.demo.negations negations.jsonl

A row's targets are the *unwanted* pictures: the lower its recall, the better. See negations.md.
"""

import sys
from pathlib import Path
from typing import Any

import regex
import yaml

from models.rewriter.tasks import choose_task
from training.data.demo.names_and_descriptions import gallery
from training.data.rows import Row

NEGATIONS = Path(__file__).parent / "negations.yaml"


def negation_rows() -> list[Row]:
    """One row for each language and thing.

    Raises:
        InputError: the demo is not prepared.
    """
    written: dict[str, Any] = yaml.safe_load(NEGATIONS.read_text(encoding="utf-8"))
    pictures = {thing: _shown(**shows) for thing, shows in written["things"].items()}
    return [
        Row(
            query=query, targets=pictures[thing], task=choose_task(query).name, language=language,
            split="test",
        )
        for language, queries in written["queries"].items()
        for thing, query in queries.items()
    ]  # fmt: skip


def _shown(words: list[str], **other: list[str]) -> tuple[str, ...]:
    """Ids of the pictures that show a thing, by their English names."""
    named = regex.compile(rf"\b(?:{'|'.join(map(regex.escape, words))})\b")
    return tuple(
        str(record["id"])
        for record in gallery()
        if any(named.search(name) for name in (record["name"], *record["aliases"]))
        and record["name"] not in other.get("except", [])
    )


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m training.data.demo.negations OUT.jsonl")
    lines = "".join(row.model_dump_json() + "\n" for row in negation_rows())
    Path(sys.argv[1]).write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
