"""TextEncoder: a frozen sentence-transformers model, for a corpus of texts instead of images."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from models.common import hub
from models.common.errors import InputError
from models.retriever.manifest import EncoderFingerprint
from models.retriever.pictures import PictureError
from models.retriever.types import TextLength, Vectors

PREFIX = "sentence-transformers:"
# A model does not record it; this is the default of sentence-transformers' contrastive loss
# (MultipleNegativesRankingLoss, scale 20).
_TEMPERATURE = 0.05
FILES = ("*.safetensors", "*.json", "*.txt", "*.model")
_BATCH = 32  # texts; more gain nothing and take memory for the padding of long ones


class TextEncoder:
    """The counterpart of :class:`~models.retriever.clip_encoder.ClipEncoder` for texts.

    Documents and queries are encoded alike.

    Args:
        name: ``sentence-transformers:`` followed by a folder or a name on the hub, which may end in
            ``@REVISION``.
        device: ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        InputError: the package is not installed, or the model cannot be loaded.
    """

    temperature = _TEMPERATURE
    enough_pixels = 1

    def __init__(self, name: str, device: str = "cpu") -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise InputError(
                "A corpus of texts needs sentence-transformers: install the extra 'text'."
            ) from error
        name, folder, revision = _found(name)
        try:
            self._model: Any = SentenceTransformer(str(folder), device=device)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"The encoder {name!r} cannot be loaded: {str(error).splitlines()[0]}"
            ) from error
        self._model.eval()
        self._counter = _token_counter(self._model.tokenizer.backend_tokenizer)
        self.context_length = int(self._model.max_seq_length or 0)
        self.dim = int(self._model.get_embedding_dimension() or 0)
        self.fingerprint = EncoderFingerprint(
            name=name,
            pretrained=None,
            weights_sha256=_weights_hash(self._model.state_dict()),
            preprocess_sha256=hashlib.sha256(repr(self._model).encode()).hexdigest(),
            tokenizer_sha256=hashlib.sha256(
                self._model.tokenizer.backend_tokenizer.to_str().encode()
            ).hexdigest(),
            dim=self.dim,
            revision=revision,
        )

    def text_length(self, text: str) -> TextLength:
        """Counts the encoder's own tokens of one text, with both marks and nothing cut."""
        return TextLength(len(self._counter.encode(text).ids), self.context_length)

    def set_text_threads(self) -> None:
        """Changes nothing: even a small sentence encoder gains from every core."""

    def encode_texts(self, texts: Iterable[str], batch_size: int = _BATCH) -> Vectors:
        """Unit vectors of texts: float32 ``[n, dim]``, in the same order."""
        vectors = self._model.encode(
            list(texts),
            batch_size=min(batch_size, _BATCH),
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.asarray(vectors, np.float32).reshape(-1, self.dim)

    def encode_images(self, images: Iterable[Any], batch_size: int = 64) -> Vectors:
        """Always raises :class:`PictureError`: the model reads texts only."""
        raise PictureError(
            "The encoder of this index reads texts only: search with a query and without an image."
        )


def _found(name: str) -> tuple[str, Path, str | None]:
    """The name without a revision, the folder, and the commit on the hub."""
    where = name.removeprefix(PREFIX)
    if Path(where).is_dir():
        return name, Path(where), None
    repository = hub.parse(where)
    folder = hub.fetch(repository, FILES)
    return f"{PREFIX}{repository.name}", folder, hub.commit_of(folder)


def _token_counter(tokenizer: Any) -> Any:
    """A copy that cuts nothing.

    A tokenizer's truncation is a setting of the tokenizer itself, which one thread must not change
    while another one encodes.
    """
    from tokenizers import Tokenizer

    counter = Tokenizer.from_str(tokenizer.to_str())
    counter.no_truncation()
    counter.no_padding()
    return counter


def _weights_hash(weights: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
