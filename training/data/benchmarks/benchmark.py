"""What a loader returns: the whole gallery or corpus of a split, and its queries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from training.data.rows import Row


@dataclass(frozen=True)
class Benchmark:
    """One split of a data set, whose pictures or texts include every target of its rows.

    The task of a row is the one that serving would choose for the query, so that we measure what is
    served. A loader that deviates says so.
    """

    name: str
    pictures: Mapping[str, Path]  # id to file: exactly the gallery of that split
    rows: Sequence[Row]
    about: str  # the split, its pictures and queries, and what the paper says about it
    texts: Mapping[str, str] = field(default_factory=dict)  # id to text, if it has no pictures
