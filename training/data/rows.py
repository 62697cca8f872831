"""Row: one query, the pictures that answer it, and what else the data knows about it."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from models.rewriter.tasks import TaskName, composed_query
from models.search.normalise import normalise

Split = Literal["train", "validation", "test"]
Grade = Annotated[int, Field(ge=1, le=100)]


class Row(BaseModel, frozen=True):
    """One query. In a CSV cell, ``|`` separates several ids."""

    query: str = Field(min_length=1)  # normalised as serving does it
    targets: tuple[str, ...] = Field(min_length=1)  # ids in the index; any of them is right
    # How relevant each target is, from 1. Not in the file if all are alike.
    grades: tuple[Grade, ...] = Field((), exclude_if=lambda grades: not grades)
    task: TaskName = "multilingual"
    language: str = "und"  # ISO 639-1, or "und" (ISO 639-2) if unknown
    split: Split = "train"
    english: str | None = None  # a perfect English query, if known: the oracle's rewrite
    # A composed query says how the target differs from a reference picture. Recall leaves the
    # reference out; subset recall ranks only the group, which holds the target but not the
    # reference.
    reference: str | None = None
    caption: str | None = None  # of the reference, for a language model that sees no pictures
    group: tuple[str, ...] = ()
    # Left out of the ranking of this query as well. Not in the file if there are none.
    excluded: tuple[str, ...] = Field((), exclude_if=lambda excluded: not excluded)

    @property
    def asked(self) -> str:
        """The text that the language model is given."""
        return composed_query(self.caption, self.query) if self.caption else self.query

    @property
    def pictures(self) -> tuple[str, ...]:
        """Ids of every picture that the row names."""
        reference = (self.reference,) if self.reference else ()
        return (*self.targets, *reference, *self.group, *self.excluded)

    @field_validator("query")
    @classmethod
    def _as_served(cls, value: str) -> str:
        return normalise(value) or value

    @field_validator("targets", "grades", "group", "excluded", mode="before")
    @classmethod
    def _split_cells(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(value.split("|"))
        return tuple(value) if isinstance(value, Iterable) else value

    @model_validator(mode="after")
    def _every_target_has_a_grade(self) -> Self:
        if self.grades and len(self.grades) != len(self.targets):
            raise ValueError(f"{len(self.targets)} targets have {len(self.grades)} grades")
        return self

    @model_validator(mode="after")
    def _composed_has_a_picture(self) -> Self:
        if self.task == "composed" and not (self.reference and self.caption):
            raise ValueError("a composed query needs a reference and its caption")
        return self


def same_query(query: str) -> str:
    """A key that two queries share if they differ only in case and form."""
    return normalise(query).casefold()
