"""What a request may hold; the limits that a setting decides are checked by the routes."""

import base64
import binascii
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from models.search.options import Fusion, RewriteMode

TaskChoice = Literal["auto", "multilingual", "long", "composed"]


def _printable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("a NUL character is not text")
    return text


def _base64(text: str) -> str:
    """Bare base64 or a ``data:`` URI. An address is refused: the server fetches nothing."""
    data = text
    if text.startswith("data:"):
        head, separator, data = text.partition(",")
        if not separator or not head.endswith(";base64"):
            raise ValueError("a data: URI must be base64, as in data:image/png;base64,...")
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(
            "image must be base64 or a data: URI; addresses are not fetched"
        ) from error
    return text


Query = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1),
    AfterValidator(_printable),
]
Queries = Query | Annotated[list[Query], Field(min_length=1)]
Base64Image = Annotated[str, AfterValidator(_base64)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RewriteRequest(_Request):
    query: Queries = Field(description="one query or a list of them", examples=["ein roter Drache"])
    image: Base64Image | None = Field(
        None, description="the picture that a query of task 'composed' is about"
    )
    task: TaskChoice = "auto"
    n: int = Field(
        1, ge=1, le=16, description="rewrites to draw; more than one needs a temperature"
    )
    temperature: float = Field(0.0, ge=0, le=2, description="0 gives the same answer every time")


class SearchRequest(_Request):
    query: Queries | None = Field(
        None, description="one query or a list of them", examples=["ein roter Drache"]
    )
    image: Base64Image | None = Field(
        None, description="a picture to search with; a query then says what is to be different"
    )
    image_id: str | None = Field(None, description="the same, for a picture of the index")
    with_reference: bool = Field(False, description="leave that picture among the hits")
    k: int = Field(10, ge=1, le=1000, description="most pictures to return")
    rewrite: RewriteMode | None = Field(None, description="the server's default when left out")
    fusion: Fusion | None = Field(None, description="the server's default when left out")
    n: int | None = Field(
        None,
        ge=1,
        le=16,
        description="rewrites to search with, drawn with temperature 1; left out, 4 for "
        "self-consistency and 1 for all else",
    )
    compare: bool = Field(False, description="return the original query's pictures too")
    filter: dict[str, Any] | None = Field(None, description="not available yet")
    rerank: bool = Field(False, description="not available yet")
