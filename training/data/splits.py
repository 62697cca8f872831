"""The splits of the data: assigned, checked against the index and each other, and sampled."""

import hashlib
import random
from collections.abc import Mapping, Sequence

from models.common.errors import InputError
from models.retriever.image_index import ImageIndex
from training.data.rows import Row, Split, same_query

_LISTED = 10
SPLIT_SEED = 0
_TRAIN, _VALIDATION = 0.6, 0.1  # shares; the rest is the test split


def split_of(picture_id: str) -> Split:
    """The split of a picture and of all its queries; independent of the rest of the gallery."""
    digest = hashlib.sha256(f"{SPLIT_SEED}:{picture_id}".encode()).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    if place < _TRAIN:
        return "train"
    return "validation" if place < _TRAIN + _VALIDATION else "test"


def check_targets(rows: Sequence[Row], index: ImageIndex) -> None:
    """Raises :class:`InputError` if rows name pictures that the index does not hold."""
    unknown = sorted({t for row in rows for t in row.pictures if index.position(t) is None})
    if unknown:
        shown = ", ".join(unknown[:_LISTED]) + (", ..." if len(unknown) > _LISTED else "")
        raise InputError(
            f"{len(unknown)} of the data's ids are not in the index: {shown}. Is this the index "
            "that the data was made for?"
        )


def check_leakage(rows: Sequence[Row]) -> None:
    """Raises :class:`InputError` if the test split leaks into training or validation.

    A leak is a target of the test split that is a target elsewhere too, or a query of the test
    split that another split contains word for word.
    """
    tested = [row for row in rows if row.split == "test"]
    pictures = {target for row in tested for target in row.targets}
    queries = {same_query(row.asked) for row in tested}
    for row in rows:
        if row.split == "test":
            continue
        if leaked := pictures.intersection(row.targets):
            raise InputError(
                f"The picture {min(leaked)!r} is a target of the {row.split} split and of the test "
                "split: split by picture."
            )
        if same_query(row.asked) in queries:
            raise InputError(f"{row.asked!r} is in the {row.split} split and in the test split.")


def choose(
    rows: Sequence[Row], split: Split, counts: Mapping[str, int | None], seed: int
) -> list[Row]:
    """A random sample of a split, the same for the same seed.

    Args:
        counts: the tasks to sample, each with its maximum number of rows; None takes all.
    """
    return [
        row for task, count in counts.items() for row in _sample(rows, split, task, count, seed)
    ]


def _sample(rows: Sequence[Row], split: Split, task: str, most: int | None, seed: int) -> list[Row]:
    rng = random.Random(seed)
    languages: dict[str, list[Row]] = {}
    for row in rows:
        if row.split == split and row.task == task:
            languages.setdefault(row.language, []).append(row)
    for group in languages.values():
        rng.shuffle(group)
    # Round-robin: a language with few rows contributes all of them before others contribute more.
    longest = max(map(len, languages.values()), default=0)
    mixed = [group[i] for i in range(longest) for group in languages.values() if i < len(group)]
    sample = mixed[:most]
    rng.shuffle(sample)
    return sample
