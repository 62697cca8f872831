"""What a search can be asked for, as closed lists of words; importing them costs nothing."""

from typing import Literal

RewriteMode = Literal["auto", "always", "never"]
Fusion = Literal["auto", "rewrite", "original", "rrf", "mean", "interleave", "self-consistency"]


def rewrites_to_draw(fusion: Fusion, n: int | None = None) -> int:
    """How many rewrites a search draws by default; a single one has nothing to agree with."""
    return n or (4 if fusion == "self-consistency" else 1)
