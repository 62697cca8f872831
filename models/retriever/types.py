"""Small types that encoder, index and service pass around; importing them costs nothing heavy."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]  # [n, dim], each row of length one
Metadata = dict[str, Any]


class TextLength(NamedTuple):
    """How much of a text the encoder reads. open_clip cuts what is over the limit without a
    word.
    """

    clip_tokens: int  # start and end marks included
    limit: int

    @property
    def truncated(self) -> bool:
        return self.clip_tokens > self.limit


class Hit(NamedTuple):
    """One picture found: its place in the index and its score (a cosine, -1 to 1, unless fused)."""

    position: int
    score: float
