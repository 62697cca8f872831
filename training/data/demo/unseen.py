"""Names in languages that the demo's adapter never saw, to test what it makes of them.

``unseen.json.gz`` holds the names of the test split's pictures; its data card is ``unseen.md``. A
name that a picture of the gallery has in one of the demo's own languages is left out: "tunnel" is
Dutch, and English too.
"""

import gzip
import json
from pathlib import Path

from models.rewriter.tasks import choose_task
from training.data.demo.keywords import known_names
from training.data.demo.names_and_descriptions import english_names
from training.data.rows import Row, same_query

UNSEEN = Path(__file__).parent / "unseen.json.gz"
UNSEEN_LANGUAGES = ("nl", "sv", "pl", "cs", "uk", "el", "he", "hi", "th", "vi")


def unseen_rows() -> list[Row]:
    """One row for each language and picture, all in the split ``test``.

    Raises:
        InputError: the demo is not prepared.
    """
    with gzip.open(UNSEEN, "rt", encoding="utf-8") as file:
        written: dict[str, dict[str, str]] = json.load(file)
    english, seen = english_names(), known_names()
    return [
        Row(
            query=name, targets=(picture,), task=choose_task(name).name,
            language=language, split="test", english=english[picture],
        )
        for language, names in written.items()
        for picture, name in names.items()
        if same_query(name) not in seen
    ]  # fmt: skip
