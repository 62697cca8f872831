"""What a search can be asked for, as closed lists of words; importing them costs nothing."""

from typing import Annotated, Literal

from pydantic import Field

RewriteMode = Literal["auto", "always", "never"]
Fusion = Literal["auto", "mixture", "rewrite", "original", "rrf", "mean", "interleave"]
RewriteCount = Literal["auto"] | Annotated[int, Field(ge=1, le=16)]
