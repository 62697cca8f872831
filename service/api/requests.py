"""What a request may contain. The routes check the limits that are settings."""

import base64
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from models.search.options import (
    CANDIDATES,
    MOST_CANDIDATES,
    Fusion,
    Rerank,
    RerankBy,
    RewriteCount,
    RewriteMode,
)

# URL-safe base64 as the usual one. `base64 FILE` breaks lines.
_USUAL_BASE64 = bytes.maketrans(b"-_", b"+/")
_WHITESPACE = b" \t\r\n"

TaskChoice = Literal["auto", "multilingual", "long", "composed"]


def _printable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("text must not contain NUL characters")
    return text


def _base64(text: str) -> str:
    """Bare base64 or a ``data:`` URI, as bare base64. The server fetches no URL.

    Line breaks, missing padding and the URL-safe alphabet are accepted.
    """
    if text[:5].lower() == "data:":
        head, separator, text = text.partition(",")
        if not separator or not head.rstrip().lower().endswith(";base64"):
            raise ValueError("a data: URI must be base64, as in data:image/png;base64,...")
    try:
        data = text.encode("ascii").translate(_USUAL_BASE64, _WHITESPACE).rstrip(b"=")
        data += b"=" * (-len(data) % 4)
        base64.b64decode(data, validate=True)
    except ValueError as error:
        raise ValueError(
            "image must be base64 or a data: URI; the server does not fetch URLs"
        ) from error
    return data.decode()


Query = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1),
    AfterValidator(_printable),
]
Queries = Query | Annotated[list[Query], Field(min_length=1)]
Base64Image = Annotated[str, AfterValidator(_base64)]


class StrictRequest(BaseModel):
    """A body that takes no unknown key: a misspelt option must not be ignored."""

    model_config = ConfigDict(extra="forbid")


class RewriteRequest(StrictRequest):
    query: Queries = Field(description="One query or a list of them", examples=["ein roter Drache"])
    image: Base64Image | None = Field(
        None,
        description="The picture that the query changes (task `composed`), as base64 or a "
        "`data:` URI",
    )
    task: TaskChoice = Field(
        "auto", description="Kind of query; `auto` chooses by its length and whether there is an "
        "image"
    )  # fmt: skip
    n: RewriteCount = Field(
        1,
        description="Number of rewrites, the most probable first; `auto`: as many as it takes to "
        "cover most of what the query may mean",
    )
    temperature: float = Field(
        0.0,
        ge=0,
        le=2,
        description="0 finds the most probable rewrites, the same every time; above 0 they are "
        "drawn at this temperature",
    )

    @model_validator(mode="after")
    def _auto_is_not_drawn(self) -> Self:
        if self.n == "auto" and self.temperature > 0:
            raise ValueError("n 'auto' finds the most probable rewrites: leave out the temperature")
        return self


class SearchRequest(StrictRequest):
    query: Queries | None = Field(
        None, description="One query or a list of them", examples=["ein roter Drache"]
    )
    image: Base64Image | None = Field(
        None,
        description="A picture to search with, as base64 or a `data:` URI; a query then says what "
        "should be different",
    )
    image_id: str | None = Field(
        None, description="A picture of the index to search with, instead of `image`"
    )
    with_reference: bool = Field(
        False, description="Keep the picture that the search starts from among the hits"
    )
    k: int = Field(10, ge=1, le=1000, description="Maximum number of hits")
    rewrite: RewriteMode | None = Field(
        None, description="When to rewrite; defaults to the server's setting"
    )
    fusion: Fusion | None = Field(
        None, description="How query and rewrites are combined; defaults to the server's setting"
    )
    n: RewriteCount | None = Field(
        None,
        description="Number of rewrites to search with; `auto`: one if the model is sure, up to 16 "
        "if it is not, fewer under load. Defaults to the server's setting",
    )
    compare: bool = Field(False, description="Also return the hits of the original query")
    filter: dict[str, Any] | None = Field(
        None,
        description="What the metadata of a hit must be, such as "
        '`{"year": {"gte": 2020}, "not": {"tags": "draft"}}`. Values are compared with `eq` (the '
        "default), `in`, `gt`, `gte`, `lt`, `lte` (numbers, or ISO 8601 dates), `prefix` and "
        "`exists`; `all`, `any` and `not` combine filters; `exif.iso` is a nested field",
        examples=[None],
    )
    nprobe: int | None = Field(
        None,
        ge=1,
        le=2**20,
        description="Cells of a large IVF index to look at; defaults to what the index was tuned "
        "for. Other indexes ignore it",
    )
    ef_search: int | None = Field(
        None,
        ge=1,
        le=2**20,
        description="Length of the queue in which a large HNSW index is walked; likewise",
    )
    rerank: Rerank = Field(
        False,
        description="Put the first hits in a new order, by how probable the language model finds "
        f"the query after each one's caption: true for the first {CANDIDATES}, or their number",
        examples=[True],
    )
    rerank_by: RerankBy = Field(
        "auto",
        description="What compares the hits: `likelihood` scores each alone, `group` several in "
        "one prompt; `auto` is the one that measures better, and with a model that sees the "
        "pictures `group`, by what they show",
    )


# With a constraint pydantic refuses text that is no Unicode, which could not be sent back.
DocumentId = Annotated[str, StringConstraints(max_length=1000)]


class Document(StrictRequest):
    id: DocumentId | None = Field(None, description="Returned with the score")
    text: Query = Field(description="What the document says")


class RerankRequest(StrictRequest):
    query: Query = Field(description="What is looked for", examples=["ein roter Drache"])
    documents: list[Query | Document] = Field(
        min_length=1,
        max_length=MOST_CANDIDATES,
        description="Texts, or objects with an id and a text, in the order that is kept where "
        "scores are equal or missing",
        examples=[["red dragon", {"id": "1F432", "text": "dragon face"}, "red kite"]],
    )
    k: int | None = Field(None, ge=1, description="Maximum number of results; all by default")
    rerank_by: RerankBy = Field("auto", description="As in `POST /search`")
