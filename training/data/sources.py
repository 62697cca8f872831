"""Where rows come from: a file, a data set on the hub, or the demo."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from models.common.errors import InputError
from training.data.rows import Row
from training.data.tables import READERS, read_table

DEMO = "demo"
DEMO_COMPOSED = "demo-composed"  # a picture and a change to it
DEMO_REMOVALS = "demo-removals"  # a picture without one of its things, or smiling
DEMO_KEYWORDS = "demo-keywords"  # what people type who do not know the name
DEMO_LONG = "demo-long"  # descriptions longer than the encoder reads
DEMO_NEGATIONS = "demo-negations"  # what is not wanted; the targets should not be found
DEMO_UNSEEN = "demo-unseen"  # names in languages that no other data has
DEMO_ALL = "demo-all"  # what one adapter for all tasks learns: these, and plain English names

_DEMO = (
    DEMO, DEMO_COMPOSED, DEMO_REMOVALS, DEMO_KEYWORDS, DEMO_LONG, DEMO_NEGATIONS, DEMO_UNSEEN,
    DEMO_ALL,
)  # fmt: skip


def load_rows(source: str) -> list[Row]:
    """Reads rows from a JSONL, CSV, TSV or parquet file, a data set on the hub, or the demo.

    A file that exists is never looked up on a hub. The columns are the fields of :class:`Row`;
    ``task``, ``language`` and ``split`` are optional.
    If a data set on the hub has no column ``split``, its own splits are used.

    Raises:
        InputError: the source cannot be found or read, or a row is invalid; the first one is named.
    """
    if source in _DEMO:
        return _demo(source)
    rows = []
    for number, record in enumerate(_records(source), 1):
        try:
            rows.append(Row.model_validate(record))
        except ValidationError as error:
            first = error.errors()[0]
            column = first["loc"][0] if first["loc"] else "row"
            raise InputError(f"{source}, row {number}: {column}: {first['msg']}.") from error
    if not rows:
        raise InputError(f"{source} holds no rows.")
    return rows


def _records(source: str) -> Iterator[dict[str, Any]]:
    path = Path(source)
    if path.suffix.lower() in READERS:
        return read_table(path)
    if path.is_file():
        raise InputError(
            f"{source} is a file of an unknown kind: its name must end in {', '.join(READERS)}."
        )
    return _read_hub(source)


def _demo(source: str) -> list[Row]:
    from training.data.demo import (
        composed,
        keywords,
        long_texts,
        names_and_descriptions,
        negations,
        unseen,
    )

    made = {
        DEMO: names_and_descriptions.demo_rows,
        DEMO_COMPOSED: composed.composed_rows,
        DEMO_REMOVALS: composed.removal_rows,
        DEMO_KEYWORDS: keywords.keyword_rows,
        DEMO_LONG: long_texts.long_rows,
        DEMO_NEGATIONS: negations.negation_rows,
        DEMO_UNSEEN: unseen.unseen_rows,
        DEMO_ALL: composed.all_rows,
    }
    return made[source]()


def _read_hub(name: str) -> Iterator[dict[str, Any]]:
    import datasets

    try:
        splits = datasets.load_dataset(name)
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
        raise InputError(
            f"The data set {name!r} cannot be found ({str(error).splitlines()[0]}); the name of a "
            f"file ends in {', '.join(READERS)}."
        ) from error
    for split, table in splits.items():
        for record in table:
            yield {"split": split, **{k: v for k, v in record.items() if v is not None}}
