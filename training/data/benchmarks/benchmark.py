"""What a loader gives: the whole gallery of a split, and the queries that are asked of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.data.rows import Row


@dataclass(frozen=True)
class Benchmark:
    """One split of a data set; every target of its rows is a picture of it.

    The rows' task is the one that serving would choose for the query, so that what is measured is
    what is served; a loader whose rows have another says so.
    """

    name: str
    pictures: Mapping[str, Path]  # id to file: the whole gallery of that split, nothing else
    rows: Sequence[Row]
    about: str  # which split, how many pictures and queries, what the paper says of it
