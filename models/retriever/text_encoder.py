"""TextEncoder: a frozen sentence-transformers model, for a corpus of texts instead of pictures."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from models.common.errors import InputError
from models.retriever.manifest import EncoderFingerprint
from models.retriever.types import TextLength, Vectors

PREFIX = "sentence-transformers:"


class TextEncoder:
    """The counterpart of :class:`~models.retriever.clip_encoder.ClipEncoder` for texts.

    Documents and queries are encoded alike.

    Args:
        name: ``sentence-transformers:`` and a folder, or a name on the hub.

    Raises:
        InputError: the package or the model is not to be had.
    """

    def __init__(self, name: str, device: str = "cpu") -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise InputError(
                "A corpus of texts needs sentence-transformers: install the extra 'text'."
            ) from error
        try:
            self._model: Any = SentenceTransformer(name.removeprefix(PREFIX), device=device)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"The encoder {name!r} cannot be loaded: {str(error).splitlines()[0]}"
            ) from error
        self._model.eval()
        self.context_length = int(self._model.max_seq_length or 0)
        self.fingerprint = EncoderFingerprint(
            name=name,
            pretrained=None,
            weights_sha256=_weights_hash(self._model.state_dict()),
            preprocess_sha256=hashlib.sha256(repr(self._model).encode()).hexdigest(),
            tokenizer_sha256=hashlib.sha256(
                self._model.tokenizer.backend_tokenizer.to_str().encode()
            ).hexdigest(),
            dim=int(self._model.get_embedding_dimension() or 0),
        )

    def encode_texts(self, texts: Iterable[str]) -> Vectors:
        """Unit vectors, float32 ``[n, dim]``."""
        found = self._model.encode(
            list(texts), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return np.asarray(found, np.float32).reshape(-1, self.fingerprint.dim)

    def text_length(self, text: str) -> TextLength:
        """Tokens with both marks, before what is over the limit is cut."""
        found = self._model.tokenizer(text, truncation=False, verbose=False)
        return TextLength(len(found.input_ids), self.context_length)


def _weights_hash(weights: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
