"""Where rows come from: a file, a data set on the hub, or the demo."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from models.common.errors import InputError
from training.data.rows import Row

DEMO = "demo"
DEMO_COMPOSED = "demo-composed"  # a picture and a change to it
DEMO_REMOVALS = "demo-removals"  # a picture without one of its things, or smiling
DEMO_KEYWORDS = "demo-keywords"  # what people type who do not know the name
DEMO_LONG = "demo-long"  # descriptions longer than the encoder reads
DEMO_NEGATIONS = "demo-negations"  # what is not wanted; the targets should not be found
DEMO_ALL = "demo-all"  # what one adapter for all tasks learns: these, and plain English names

_DEMO = (
    DEMO, DEMO_COMPOSED, DEMO_REMOVALS, DEMO_KEYWORDS, DEMO_LONG, DEMO_NEGATIONS, DEMO_ALL,
)  # fmt: skip
_FILES = (".jsonl", ".csv", ".parquet")


def load_rows(source: str) -> list[Row]:
    """Reads rows from a JSONL, CSV or parquet file, from a data set on the hub, or from the demo.

    The columns are the fields of :class:`Row`; ``task``, ``language`` and ``split`` are optional.
    If a data set on the hub has no column ``split``, its own splits are used.

    Raises:
        InputError: the source cannot be found or read, or a row is invalid; the first one is named.
    """
    if source in _DEMO:
        return _demo(source)
    is_file = Path(source).suffix in _FILES
    rows = []
    for number, record in enumerate(_read_file(Path(source)) if is_file else _read_hub(source), 1):
        try:
            rows.append(Row.model_validate(record))
        except ValidationError as error:
            first = error.errors()[0]
            column = first["loc"][0] if first["loc"] else "row"
            raise InputError(f"{source}, row {number}: {column}: {first['msg']}.") from error
    if not rows:
        raise InputError(f"{source} holds no rows.")
    return rows


def _demo(source: str) -> list[Row]:
    from training.data.demo import (
        composed,
        keywords,
        long_texts,
        names_and_descriptions,
        negations,
    )

    made = {
        DEMO: names_and_descriptions.demo_rows,
        DEMO_COMPOSED: composed.composed_rows,
        DEMO_REMOVALS: composed.removal_rows,
        DEMO_KEYWORDS: keywords.keyword_rows,
        DEMO_LONG: long_texts.long_rows,
        DEMO_NEGATIONS: negations.negation_rows,
        DEMO_ALL: composed.all_rows,
    }
    return made[source]()


def _read_file(path: Path) -> Iterator[dict[str, Any]]:
    import pandas

    try:
        if path.suffix == ".jsonl":
            frame = pandas.read_json(path, lines=True, dtype=False)
        elif path.suffix == ".csv":
            # "null" is a German word ("zero"): only an empty cell is missing.
            frame = pandas.read_csv(path, dtype=str, keep_default_na=False)
            frame = frame.mask(frame == "")
        else:
            frame = pandas.read_parquet(path)
    except FileNotFoundError as error:
        raise InputError(f"There is no data file {path}.") from error
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    for record in frame.to_dict("records"):
        yield {str(key): value for key, value in record.items() if _is_present(value)}


def _is_present(value: Any) -> bool:
    """False for an empty cell of a table, which pandas reads as NaN."""
    return value is not None and value == value if not hasattr(value, "__len__") else True


def _read_hub(name: str) -> Iterator[dict[str, Any]]:
    import datasets

    try:
        splits = datasets.load_dataset(name)
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
        raise InputError(
            f"The data set {name!r} cannot be found ({str(error).splitlines()[0]}); the name of a "
            f"file ends in {', '.join(_FILES)}."
        ) from error
    for split, table in splits.items():
        for record in table:
            yield {"split": split, **{k: v for k, v in record.items() if v is not None}}
