"""Reads the folder of a data set; anything unexpected becomes one error sentence."""

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import BaseModel, Field, StringConstraints, ValidationError

from models.common.errors import InputError
from training.data.benchmarks.benchmark import Benchmark
from training.data.rows import Row

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Id = Annotated[str, Field(min_length=1, coerce_numbers_to_str=True)]
Record = TypeVar("Record", bound=BaseModel)


@dataclass(frozen=True)
class Counts:
    """The size of the complete split; None if no source gives the number."""

    pictures: int  # or texts
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

    def parquet(self, pattern: str, record: type[Record]) -> Iterator[Record]:
        """Each row of the Parquet files of that name, in the order of their names, as a record.

        Only the columns of the record are read.
        """
        import pyarrow.parquet

        files = sorted(self.folder.glob(pattern))
        if not files:
            self.file(pattern)
        for path in files:
            relative = path.relative_to(self.folder).as_posix()
            try:
                table = pyarrow.parquet.ParquetFile(path)
                batches = table.iter_batches(columns=list(record.model_fields))
                rows = (row for batch in batches for row in batch.to_pylist())
                for number, row in enumerate(rows, 1):
                    yield self.record(relative, f"row {number}", row, record)
            except (pyarrow.ArrowException, OSError) as error:
                reason = str(error).splitlines()[0].rstrip(".")
                self.refuse(relative, "whole file", f"not Parquet ({reason})")

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
        counted = self._checked(pictures.keys(), "picture", rows, expected)
        return Benchmark(self.name, pictures, tuple(rows), f"{split}: {counted}. {paper}")

    def text_benchmark(
        self,
        texts: Mapping[str, str],
        rows: Sequence[Row],
        split: str,
        paper: str,
        expected: Counts | None,
    ) -> Benchmark:
        """As :meth:`benchmark`, of a corpus of texts."""
        counted = self._checked(texts.keys(), "document", rows, expected)
        return Benchmark(self.name, {}, tuple(rows), f"{split}: {counted}. {paper}", texts)

    def _checked(
        self, ids: Set[str], kind: str, rows: Sequence[Row], expected: Counts | None
    ) -> str:
        """How many there are, in words."""
        self._check_counts(len(ids), f"{kind}s", len(rows), expected)
        for row in rows:
            if unknown := sorted(set(row.pictures) - ids):
                raise InputError(
                    f"{self.name}: the query {row.query!r} asks for {unknown[0]!r}, which is not "
                    f"a {kind} of the split."
                )
        return f"{len(ids):,} {kind}s, {len(rows):,} queries"

    def _check_counts(self, count: int, kinds: str, queries: int, expected: Counts | None) -> None:
        if expected is None:
            return
        wanted, found = f"{expected.pictures:,} {kinds}", f"{count:,}"
        if expected.queries is not None:
            wanted, found = f"{wanted} and {expected.queries:,} queries", f"{found} and {queries:,}"
        if count != expected.pictures or queries != (expected.queries or queries):
            raise InputError(
                f"{self.name}: expected {wanted}, found {found}. Is this the complete split as "
                f"described on {self.page}?"
            )
