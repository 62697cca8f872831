"""Finished work in a file, from which an interrupted run goes on."""

import json
from pathlib import Path
from typing import Any


class KeptLines:
    """JSON values by key, one line each, written as they are added."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, Any] = dict(_lines(path))

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def add(self, key: str, value: Any) -> None:
        """Keeps a value. A line break comes first: the line before it may be incomplete."""
        self._values[key] = value
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "a", encoding="utf-8") as file:
            file.write("\n" + json.dumps([key, value], ensure_ascii=False))


def _lines(path: Path) -> list[tuple[str, Any]]:
    found = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                key, value = json.loads(line)
            except ValueError:
                continue  # empty or incomplete
            found.append((key, value))
    return found
