"""Makes ``keywords.json.gz`` from the npm package ``cldr-annotations-full``.

npm pack cldr-annotations-full@48.2.0 && tar xzf cldr-annotations-full-48.2.0.tgz
python -m training.data.demo.collect_keywords package
"""

import gzip
import json
import sys
from collections import defaultdict
from pathlib import Path

from models.demo.gallery import LANGUAGES
from training.data.demo.keywords import KEYWORDS
from training.data.demo.names_and_descriptions import gallery

_VARIATION = "\ufe0f"  # CLDR leaves the variation selector out


def collect(package: Path) -> dict[str, dict[str, str]]:
    """By language and keyword: the ids of the gallery's pictures, separated by spaces."""
    pictures = {record["emoji"].replace(_VARIATION, ""): record["id"] for record in gallery()}
    found: dict[str, dict[str, str]] = {}
    for language in LANGUAGES:
        file = package / "annotations" / language / "annotations.json"
        annotations = json.loads(file.read_text(encoding="utf-8"))["annotations"]["annotations"]
        words: dict[str, list[str]] = defaultdict(list)
        for emoji, annotation in annotations.items():
            picture = pictures.get(emoji.replace(_VARIATION, ""))
            if picture:
                for word in annotation.get("default", ()):
                    words[word].append(picture)
        found[language] = {word: " ".join(sorted(ids)) for word, ids in sorted(words.items())}
    return found


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m training.data.demo.collect_keywords PACKAGE_FOLDER")
    text = json.dumps(collect(Path(sys.argv[1])), ensure_ascii=False, separators=(",", ":"))
    # Without a time in its header, the file is the same whenever it is made.
    KEYWORDS.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
