"""What a search can be asked for, as closed lists of words; importing them costs nothing."""

from typing import Literal

RewriteMode = Literal["auto", "always", "never"]
Fusion = Literal["auto", "rewrite", "original", "rrf", "mean", "interleave", "self-consistency"]
