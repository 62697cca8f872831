"""What a search can be asked for, as closed lists of words; importing them costs nothing."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

RewriteMode = Literal["auto", "always", "never"]
Fusion = Literal["auto", "mixture", "rewrite", "original", "rrf", "mean", "interleave"]


def _in_one_sentence(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Instead of an error for each type that the value may have."""
    try:
        return validate(value)
    except ValidationError as error:
        raise ValueError("Input should be 'auto' or a whole number from 1 to 16") from error


RewriteCount = Annotated[
    Literal["auto"] | Annotated[int, Field(ge=1, le=16)], WrapValidator(_in_one_sentence)
]
