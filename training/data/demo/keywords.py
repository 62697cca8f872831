"""The demo's keywords: what people type who do not know the name of a picture.

    python -m training.data.demo.keywords keywords.jsonl

``keywords.json.gz`` holds the keywords of Unicode CLDR in the demo's languages; its data card is
``keywords.md``. A keyword may have several right pictures. The data is split by picture and by
word: a keyword whose pictures are in different splits is left out, and so is every word that is the
name of a picture in any language.
"""

import gzip
import json
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

from models.rewriter.tasks import choose_task
from training.data.demo.names_and_descriptions import english_names, gallery
from training.data.rows import Row, same_query
from training.data.splits import split_of

KEYWORDS = Path(__file__).parent / "keywords.json.gz"


def keyword_rows() -> list[Row]:
    """One row for each language and keyword; a picture is right in whichever language it has it.

    The oracle's English is the name of the first right picture.

    Raises:
        InputError: the demo is not prepared.
    """
    written, english = _written(), english_names()
    right: dict[str, set[str]] = defaultdict(set)
    for words in written.values():
        for word, pictures in words.items():
            right[same_query(word)].update(pictures & english.keys())
    names = known_names()
    rows = []
    for language, words in written.items():
        for word in {same_query(word): word for word in words}.values():
            found = sorted(right[same_query(word)])
            splits = {split_of(picture) for picture in found}
            if len(splits) == 1 and same_query(word) not in names:
                rows.append(
                    Row(
                        query=word, targets=tuple(found), task=choose_task(word).name,
                        language=language, split=splits.pop(), english=english[found[0]],
                    )
                )  # fmt: skip
    return rows


def known_names() -> set[str]:
    """Everything that a picture of the gallery is called."""
    return {
        same_query(name)
        for record in gallery()
        for name in (record["name"], *record["names"].values(), *record["aliases"])
    }


@cache
def _written() -> dict[str, dict[str, set[str]]]:
    """The pictures of each keyword, by language."""
    with gzip.open(KEYWORDS, "rt", encoding="utf-8") as file:
        by_language: dict[str, dict[str, str]] = json.load(file)
    return {
        language: {word: set(ids.split()) for word, ids in words.items()}
        for language, words in by_language.items()
    }


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m training.data.demo.keywords OUT.jsonl")
    lines = "".join(row.model_dump_json() + "\n" for row in keyword_rows())
    Path(sys.argv[1]).write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
