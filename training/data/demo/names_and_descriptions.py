"""The demo's training data: picture names in 13 languages, and English descriptions.

    python -m training.data.demo.names_and_descriptions demo.jsonl

The names are the gallery's (Unicode CLDR). The descriptions are in ``descriptions.jsonl``, written
by hand for this project. The data is split by picture with a fixed seed.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models.common.paths import index_dir
from models.demo.gallery import LANGUAGES
from models.retriever.item_store import ItemStore
from models.retriever.manifest import read_manifest
from models.rewriter.tasks import choose_task
from training.data.rows import Row, same_query
from training.data.splits import split_of

DESCRIPTIONS = Path(__file__).parent / "descriptions.jsonl"


def demo_rows(plain_english: bool = False) -> list[Row]:
    """All rows. A query that occurs in several splits stays in test, or else in validation.

    Args:
        plain_english: include the English names of training and validation pictures; they teach
            the model to leave alone what the encoder already understands.

    Raises:
        InputError: the demo is not prepared.
    """
    rows = [*_names(), *_descriptions()]
    if plain_english:
        rows += [row for row in english_rows() if row.split != "test"]
    tested = {same_query(row.query) for row in rows if row.split == "test"}
    validated = {same_query(row.query) for row in rows if row.split == "validation"} - tested
    taken = {"test": set(), "validation": tested, "train": tested | validated}
    return [row for row in rows if same_query(row.query) not in taken[row.split]]


def english_rows() -> list[Row]:
    """The pictures' English names, which the encoder understands and rewriting can only harm."""
    return [_row(str(r["name"]), r["id"], "en", str(r["name"])) for r in gallery()]


def english_names() -> dict[str, str]:
    """English names by picture id: the rewrites of a perfect rewriter."""
    return {str(record["id"]): str(record["name"]) for record in gallery()}


def _names() -> Iterator[Row]:
    for record in gallery():
        for language in LANGUAGES:
            if language != "en" and language in record["names"]:
                yield _row(record["names"][language], record["id"], language, record["name"])


def _descriptions() -> Iterator[Row]:
    names = english_names()
    for line in DESCRIPTIONS.read_text().splitlines():
        record = json.loads(line)
        if record["id"] in names:
            yield _row(record["text"], record["id"], "en", names[record["id"]])


def _row(query: str, picture_id: str, language: str, english: str) -> Row:
    """A row with the task that serving would choose."""
    task = choose_task(query).name
    split = split_of(picture_id)
    return Row(
        query=query, targets=(picture_id,), task=task, language=language, split=split,
        english=english,
    )  # fmt: skip


def gallery() -> Iterator[dict[str, Any]]:
    """The items of the demo's index: id, names by language, aliases."""
    folder = index_dir()
    manifest = read_manifest(folder)
    for item in ItemStore.open(folder / manifest.items.name).items():
        yield {"id": item.id, **item.record}


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m training.data.demo.names_and_descriptions OUT.jsonl")
    lines = "".join(row.model_dump_json() + "\n" for row in demo_rows())
    Path(sys.argv[1]).write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
