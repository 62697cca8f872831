"""Small types that encoder, index and service share. Light to import."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image

    from models.retriever.manifest import EncoderFingerprint

Vectors = npt.NDArray[np.float32]  # [n, dim], each row of unit length
Metadata = dict[str, Any]
SHARD = "shard"  # key in the metadata of a picture that has no file of its own, see shard_pictures

_LOWERED_BY = 3.0  # cosines differ by 2 at most


def file_of(record: Metadata) -> str | None:
    """The file that holds a record's picture: its own, or a shard; below the index's folder."""
    shard = record.get(SHARD)
    file = record.get("file") or (shard.get("file") if isinstance(shard, dict) else None)
    return str(file) if file else None


class TextLength(NamedTuple):
    """How much of a text the encoder reads. Encoders cut longer texts silently."""

    clip_tokens: int  # including start and end marks
    limit: int

    @property
    def truncated(self) -> bool:
        return self.clip_tokens > self.limit


class Hit(NamedTuple):
    """One image found: its position in the index and its score (a cosine, unless fused)."""

    position: int
    score: float


class Scored(NamedTuple):
    """The pictures that one search reached, in the order of the index, and their cosines."""

    positions: npt.NDArray[np.int64]  # in the index, [n], ascending
    cosines: npt.NDArray[np.float32]  # [n]

    def best(self, k: int) -> list[Hit]:
        """The ``k`` best pictures, best first; equal ones in the order of the index."""
        places = best_places(self.cosines, k)
        found = zip(self.positions[places].tolist(), self.cosines[places].tolist(), strict=True)
        return [Hit(position, cosine) for position, cosine in found]

    def without(self, position: int) -> Scored:
        """The same without one picture."""
        kept = self.positions != position
        return Scored(self.positions[kept], self.cosines[kept])

    def lowered(self, positions: npt.NDArray[np.int64]) -> Scored:
        """The same with these pictures behind all others, in their own order."""
        lower = _LOWERED_BY * np.isin(self.positions, positions).astype(np.float32)
        return Scored(self.positions, self.cosines - lower)


def true_cosine(cosine: float) -> float:
    """The cosine of a picture that may have been lowered."""
    return cosine + _LOWERED_BY if cosine < -1.5 else cosine


def best_places(values: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
    """Places of the ``k`` greatest values, the greatest first; equal ones in their order."""
    places = np.arange(len(values))
    if 0 < k < len(values):
        # With all that equal the k-th one, so that their order decides.
        places = np.flatnonzero(values >= np.partition(values, -k)[-k])
    return places[np.argsort(-values[places], kind="stable")[:k]]


class Encoder(Protocol):
    """A frozen model that turns texts, and perhaps images, into unit vectors.

    :func:`models.retriever.open.open_encoder` opens one by name.
    """

    dim: int
    context_length: int  # tokens of a text that it reads
    temperature: float  # that its cosines were divided by in training
    enough_pixels: int  # of a picture's shorter side; more would change its vector hardly at all
    fingerprint: EncoderFingerprint

    def text_length(self, text: str) -> TextLength:
        """Counts the encoder's own tokens of one text. Safe while another thread encodes."""

    def set_text_threads(self) -> None:
        """Gives the calling thread as many CPU threads as speed up encoding a text."""

    def encode_texts(self, texts: Sequence[str], batch_size: int = 256) -> Vectors:
        """Unit vectors of texts: float32 ``[len(texts), dim]``, in the same order."""

    def encode_images(self, images: Iterable[Image], batch_size: int = 64) -> Vectors:
        """Unit vectors of RGB images: float32 ``[n, dim]``, in the same order.

        Raises:
            PictureError: the encoder reads texts only.
        """
