"""What a search can be asked for, as closed lists of words; importing them costs nothing."""

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    Strict,
    StrictBool,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

RewriteMode = Literal["auto", "always", "never"]
ComparedBy = Literal["group", "likelihood"]  # what compares the candidates of a reranking
RerankBy = Literal["auto"] | ComparedBy
Fusion = Literal["auto", "mixture", "rewrite", "original", "rrf", "mean", "interleave"]


CANDIDATES = 20  # that are reranked if a request does not say how many
MOST_CANDIDATES = 100


def _in_one_sentence(sentence: str) -> WrapValidator:
    """Instead of an error for each type that the value may have."""

    def validated(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError as error:
            raise ValueError(sentence) from error

    return WrapValidator(validated)


RewriteCount = Annotated[
    Literal["auto"] | Annotated[int, Field(ge=1, le=16)],
    _in_one_sentence("Input should be 'auto' or a whole number from 1 to 16"),
]
# True: the default number of candidates; False: no reranking.
Rerank = Annotated[
    StrictBool | Annotated[int, Strict(), Field(ge=1, le=MOST_CANDIDATES)],
    _in_one_sentence(f"Input should be true, false or a whole number from 1 to {MOST_CANDIDATES}"),
]


def candidates(rerank: bool | int) -> int:
    """How many hits a request wants reranked."""
    return CANDIDATES * rerank if isinstance(rerank, bool) else rerank
