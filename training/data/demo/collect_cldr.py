"""Makes ``keywords.json.gz`` and ``unseen.json.gz`` from the npm package ``cldr-annotations-full``.

npm pack cldr-annotations-full@48.2.0 && tar xzf cldr-annotations-full-48.2.0.tgz
python -m training.data.demo.collect_cldr package
"""

import gzip
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from models.demo.gallery import LANGUAGES
from training.data.demo.keywords import KEYWORDS
from training.data.demo.names_and_descriptions import gallery
from training.data.demo.unseen import UNSEEN, UNSEEN_LANGUAGES
from training.data.splits import split_of

_VARIATION = "\ufe0f"  # CLDR leaves the variation selector out


def keywords(package: Path) -> dict[str, dict[str, str]]:
    """By language and keyword: the ids of the gallery's pictures, separated by spaces."""
    found: dict[str, dict[str, str]] = {}
    for language in LANGUAGES:
        words: dict[str, list[str]] = defaultdict(list)
        for picture, annotation in _annotations(package, language):
            for word in annotation.get("default", ()):
                words[word].append(picture)
        found[language] = {word: " ".join(sorted(ids)) for word, ids in sorted(words.items())}
    return found


def unseen_names(package: Path) -> dict[str, dict[str, str]]:
    """By language and id: the names of the test split's pictures in languages of no other split."""
    return {
        language: {
            picture: annotation["tts"][0]
            for picture, annotation in _annotations(package, language)
            if split_of(picture) == "test" and annotation.get("tts")
        }
        for language in UNSEEN_LANGUAGES
    }


def _annotations(package: Path, language: str) -> list[tuple[str, dict[str, Any]]]:
    """The annotations of each of the gallery's pictures."""
    pictures = {record["emoji"].replace(_VARIATION, ""): record["id"] for record in gallery()}
    file = package / "annotations" / language / "annotations.json"
    annotations = json.loads(file.read_text(encoding="utf-8"))["annotations"]["annotations"]
    return [
        (pictures[character], annotation)
        for emoji, annotation in annotations.items()
        if (character := emoji.replace(_VARIATION, "")) in pictures
    ]


def _write(path: Path, data: dict[str, dict[str, str]]) -> None:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    # Without a time in its header, the file is the same whenever it is made.
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m training.data.demo.collect_cldr PACKAGE_FOLDER")
    package = Path(sys.argv[1])
    _write(KEYWORDS, keywords(package))
    _write(UNSEEN, unseen_names(package))


if __name__ == "__main__":
    main()
