"""Reads the folder of a data set; anything unexpected becomes one error sentence."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import BaseModel, StringConstraints, ValidationError

from models.common.errors import InputError
from training.data.benchmarks.benchmark import Benchmark
from training.data.rows import Row

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Record = TypeVar("Record", bound=BaseModel)


@dataclass(frozen=True)
class Counts:
    """The size of the complete split; None if no source gives the number."""

    pictures: int
    queries: int | None


@dataclass(frozen=True)
class Source:
    """The folder of a data set, and the page where it and its licence are available."""

    name: str
    folder: Path
    page: str
    pictures_page: str | None = None  # if the pictures are on another page

    def has(self, relative: str) -> bool:
        return (self.folder / relative).is_file()

    def file(self, relative: str) -> Path:
        """The path of a file that must exist."""
        if not self.has(relative):
            raise InputError(
                f"The folder of {self.name} has no {relative}: {self.page} says where the data set "
                "and its licence are available."
            )
        return self.folder / relative

    def lines(self, relative: str) -> Iterator[tuple[int, str]]:
        """The non-empty lines with their numbers, from 1; read one at a time."""
        try:
            with self.file(relative).open("rb") as lines:
                for number, raw in enumerate(lines, 1):
                    if line := raw.decode("utf-8-sig").strip():
                        yield number, line
        except UnicodeDecodeError:
            self.refuse(relative, f"line {number}", "not UTF-8")
        except OSError as error:
            raise InputError(f"{relative} of {self.name} cannot be read: {error}.") from error

    def json_lines(self, relative: str, record: type[Record]) -> Iterator[Record]:
        """Each line of a JSONL file as a record."""
        for number, line in self.lines(relative):
            place = f"line {number}"
            try:
                value = json.loads(line)
            except ValueError as error:
                self.refuse(relative, place, f"not JSON ({error})")
            yield self.record(relative, place, value, record)

    def json_list(self, relative: str, record: type[Record]) -> Iterator[Record]:
        """Each entry of a JSON file that holds a list, as a record."""
        entries = self.json(relative)
        if not isinstance(entries, list):
            self.refuse(relative, "line 1", "a list was expected")
        for number, entry in enumerate(entries, 1):
            yield self.record(relative, f"entry {number}", entry, record)

    def json(self, relative: str) -> Any:
        """The content of a JSON file."""
        try:
            return json.loads(self.bytes(relative))
        except json.JSONDecodeError as error:
            self.refuse(relative, f"line {error.lineno}", f"not JSON ({error.msg})")
        except UnicodeDecodeError:
            self.refuse(relative, "whole file", "not UTF-8")

    def bytes(self, relative: str) -> bytes:
        """The content of a file."""
        try:
            return self.file(relative).read_bytes()
        except OSError as error:
            raise InputError(f"{relative} of {self.name} cannot be read: {error}.") from error

    def record(self, relative: str, place: str, value: Any, record: type[Record]) -> Record:
        """A value validated against the columns that the data set documents."""
        try:
            return record.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            column = ".".join(map(str, first["loc"])) or "entry"
            self.refuse(relative, place, f"{column}: {first['msg']}")

    def refuse(self, relative: str, place: str, reason: str) -> NoReturn:
        """Raises the sentence that says what is wrong, and where in the file."""
        raise InputError(f"{self.name}, {relative}, {place}: {reason}.")

    def pictures(self, files: Mapping[str, str]) -> dict[str, Path]:
        """The gallery, as ids to files that all exist."""
        found = {picture: self.folder / relative for picture, relative in files.items()}
        missing = [files[picture] for picture, path in found.items() if not path.is_file()]
        if missing:
            raise InputError(
                f"{len(missing):,} of {len(files):,} pictures of {self.name} are not in its "
                f"folder, for example {missing[0]}: {self.pictures_page or self.page} says where "
                "they and their licence are available."
            )
        return found

    def benchmark(
        self,
        pictures: Mapping[str, Path],
        rows: Sequence[Row],
        split: str,
        paper: str,
        expected: Counts | None,
    ) -> Benchmark:
        """The benchmark, after its counts and ids are checked.

        Args:
            expected: None skips the check of the counts.
        """
        self._check_counts(len(pictures), len(rows), expected)
        for row in rows:
            if unknown := sorted(set(row.pictures) - pictures.keys()):
                raise InputError(
                    f"{self.name}: the query {row.query!r} asks for {unknown[0]!r}, which is not "
                    "a picture of the split."
                )
        counted = f"{len(pictures):,} pictures, {len(rows):,} queries"
        return Benchmark(self.name, pictures, tuple(rows), f"{split}: {counted}. {paper}")

    def _check_counts(self, pictures: int, queries: int, expected: Counts | None) -> None:
        if expected is None:
            return
        wanted, found = f"{expected.pictures:,} pictures", f"{pictures:,}"
        if expected.queries is not None:
            wanted, found = f"{wanted} and {expected.queries:,} queries", f"{found} and {queries:,}"
        if pictures != expected.pictures or queries != (expected.queries or queries):
            raise InputError(
                f"{self.name}: expected {wanted}, found {found}. Is this the complete split as "
                f"described on {self.page}?"
            )
