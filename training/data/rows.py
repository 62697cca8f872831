"""Training data: rows of a query and the pictures that answer it, checked against the index."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from models.common.errors import InputError
from models.retriever.image_index import ImageIndex
from models.rewriter.tasks import TaskName, composed_query

Split = Literal["train", "validation", "test"]
DEMO = "demo"
DEMO_COMPOSED = "demo-composed"  # a picture and a change to it
DEMO_REMOVALS = "demo-removals"  # the same without a thing, and smiling
DEMO_LONG = "demo-long"  # descriptions longer than the encoder reads
DEMO_ALL = "demo-all"  # all that one adapter is taught: these, and plain English names

_FILES = (".jsonl", ".csv", ".parquet")
_LISTED = 10


class Row(BaseModel, frozen=True):
    """One query; in a CSV cell several targets are parted by ``|``."""

    query: str = Field(min_length=1)
    targets: tuple[str, ...] = Field(min_length=1)  # ids in the index; any of them is right
    task: TaskName = "multilingual"
    language: str = "und"  # ISO 639-1, or ISO 639's "und" for unknown
    split: Split = "train"
    english: str | None = None  # a perfect English query, where one is known: the oracle's rewrite
    # A composed query says how the target differs from a picture. Recall leaves that picture out;
    # the subset's recall ranks the group alone, which the target is in and the reference is not.
    reference: str | None = None
    caption: str | None = None  # of the reference: what a model that sees no pictures is told
    group: tuple[str, ...] = ()

    @property
    def asked(self) -> str:
        """What the language model is shown."""
        return composed_query(self.caption, self.query) if self.caption else self.query

    @property
    def pictures(self) -> tuple[str, ...]:
        """Every picture that the row names."""
        reference = (self.reference,) if self.reference else ()
        return (*self.targets, *reference, *self.group)

    @field_validator("targets", "group", mode="before")
    @classmethod
    def _part_ids(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(value.split("|"))
        return tuple(value) if isinstance(value, Iterable) else value

    @model_validator(mode="after")
    def _composed_has_a_picture(self) -> Self:
        if self.task == "composed" and not (self.reference and self.caption):
            raise ValueError("a composed query needs a reference and its caption")
        return self


def load_rows(source: str) -> list[Row]:
    """Reads rows from a JSONL, CSV or parquet file, from a data set on the hub, or of the demo.

    Columns are those of :class:`Row`; ``task``, ``language`` and ``split`` may be missing. Where a
    hub data set has no column ``split``, its own splits are the rows'.

    Raises:
        InputError: nothing there, or a row that is not one; the sentence names the first.
    """
    if source in (DEMO, DEMO_COMPOSED, DEMO_REMOVALS, DEMO_LONG, DEMO_ALL):
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
    from training.data.demo import composed as demo_composed
    from training.data.demo import long_texts as demo_long
    from training.data.demo import queries as demo_data

    made = {
        DEMO: demo_data.demo_rows,
        DEMO_COMPOSED: demo_composed.composed_rows,
        DEMO_REMOVALS: demo_composed.removal_rows,
        DEMO_LONG: demo_long.long_rows,
        DEMO_ALL: demo_composed.all_rows,
    }
    return made[source]()


def _read_file(path: Path) -> Iterator[dict[str, Any]]:
    import pandas

    try:
        if path.suffix == ".jsonl":
            frame = pandas.read_json(path, lines=True, dtype=False)
        elif path.suffix == ".csv":
            # "null" is German for nothing: only an empty cell is none.
            frame = pandas.read_csv(path, dtype=str, keep_default_na=False)
            frame = frame.mask(frame == "")
        else:
            frame = pandas.read_parquet(path)
    except FileNotFoundError as error:
        raise InputError(f"There is no data file {path}.") from error
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    for record in frame.to_dict("records"):
        yield {str(key): value for key, value in record.items() if _is_given(value)}


def _read_hub(name: str) -> Iterator[dict[str, Any]]:
    import datasets

    try:
        splits = datasets.load_dataset(name)
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
        raise InputError(
            f"There is no data set {name!r} to be had ({str(error).splitlines()[0]}); a file ends "
            f"in {', '.join(_FILES)}."
        ) from error
    for split, table in splits.items():
        for record in table:
            yield {"split": split, **{k: v for k, v in record.items() if v is not None}}


def _is_given(value: Any) -> bool:
    """Whether a cell of a table holds something; pandas writes NaN where nothing stood."""
    return value is not None and value == value if not hasattr(value, "__len__") else True


def check_targets(rows: Sequence[Row], index: ImageIndex) -> None:
    """Raises :class:`InputError` when rows ask for pictures that the index does not hold."""
    unknown = sorted({t for row in rows for t in row.pictures if index.position(t) is None})
    if unknown:
        shown = ", ".join(unknown[:_LISTED]) + (", ..." if len(unknown) > _LISTED else "")
        raise InputError(
            f"{len(unknown)} of the data's ids are not in the index: {shown}. Is this the index "
            "that the data was made for?"
        )


def check_leakage(rows: Sequence[Row]) -> None:
    """Raises :class:`InputError` when training sees what the test asks.

    A leak is a picture of the test split that is a target in training or validation, or a query of
    the test split that stands there word for word.
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


def same_query(query: str) -> str:
    """What two queries share when they are the same but for case and spaces."""
    return " ".join(query.casefold().split())


def choose(
    rows: Sequence[Row], split: Split, counts: Mapping[str, int | None], seed: int
) -> list[Row]:
    """Rows of a split in a fixed order, up to a count (None: all) of each task in ``counts``."""
    return [row for task, count in counts.items() for row in _draw(rows, split, task, count, seed)]


def _draw(rows: Sequence[Row], split: Split, task: str, count: int | None, seed: int) -> list[Row]:
    rng = random.Random(seed)
    languages: dict[str, list[Row]] = {}
    for row in rows:
        if row.split == split and row.task == task:
            languages.setdefault(row.language, []).append(row)
    for group in languages.values():
        rng.shuffle(group)
    # Round-robin: a language with few rows gives all of them before others give more.
    longest = max(map(len, languages.values()), default=0)
    mixed = [group[i] for i in range(longest) for group in languages.values() if i < len(group)]
    drawn = mixed[:count]
    rng.shuffle(drawn)
    return drawn
