"""Marks: what people say of hits. The service writes them, `grape data from-feedback` reads them.

A folder of marks holds files ``marks-000001.jsonl``, ``marks-000002.jsonl`` and so on, one mark a
line.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

_NAME = re.compile(r"marks-\d{6}\.jsonl")

MarkKind = Literal["marked", "opened"]


class Mark(BaseModel, frozen=True):
    """One person's word on one picture."""

    time: datetime
    query: str
    id: str  # of the picture
    relevant: bool
    kind: MarkKind = "marked"  # or only looked at more closely
    request_id: str | None = None  # of the search that showed it
    index: str  # that was searched


def name_of(number: int) -> str:
    """The name of a file of marks."""
    return f"marks-{number:06}.jsonl"


def files_of(folder: Path) -> list[Path]:
    """The files of marks in a folder, the oldest first."""
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def read_marks(folder: Path) -> Iterator[Mark | None]:
    """All marks of a folder, the oldest first; None for each line that is none.

    A crash may leave half a line.
    """
    for path in files_of(folder):
        with open(path, "rb") as lines:
            for line in lines:
                if not line.strip():
                    continue
                try:
                    yield Mark.model_validate_json(line)
                except ValidationError:
                    yield None
