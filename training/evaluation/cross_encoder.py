"""Reranking by a CrossEncoder of sentence-transformers, which reads query and text together."""

import hashlib
import json
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from models.common.errors import InputError
from models.common.progress import track
from models.rewriter.base_model import checkpoint_revision, find_checkpoint
from models.search.rerank import Comparison
from training.evaluation.kept import KeptLines

_HEAD = "ForSequenceClassification"


class PairScores(NamedTuple):
    """What the model said of one query's texts."""

    values: list[float]  # logits, one for each text
    tokens: int  # that it read
    seconds: float


class PairModel:
    """A CrossEncoder by name. It is loaded when there is something to score.

    Args:
        name: a folder, or a name on the hub.
        device: ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        InputError: the package is not installed, or there is no such model.
    """

    def __init__(self, name: str, device: str = "cpu") -> None:
        try:
            import sentence_transformers  # noqa: F401
        except ImportError as error:
            raise InputError(
                "A cross-encoder needs sentence-transformers: install the extra 'text'."
            ) from error
        self._name, self._device = name, device
        try:
            self._folder = find_checkpoint(name)
        except InputError as error:
            raise InputError(
                f"The cross-encoder {name!r} cannot be found ({error.__cause__ or error}): name a "
                "folder or a model on the hub with --cross-encoder."
            ) from error
        self.revision = checkpoint_revision(self._folder)

    def scores(self, asked: Sequence[Comparison], path: Path) -> list[PairScores]:
        """The scores of each query's texts; what is in the file is read from it.

        Args:
            path: JSON lines.
        """
        kept = KeptLines(path)
        left = {key: one for one in asked if (key := self._key(one)) not in kept}
        if left:
            self._scored(next(iter(left.values())))  # the first one is slower
            for key in track(list(left), "Scoring candidates"):
                kept.add(key, self._scored(left[key]))
        return [PairScores(*kept[self._key(one)]) for one in asked]

    def _scored(self, asked: Comparison) -> PairScores:
        import torch

        pairs = [(asked.query, text) for text in asked.texts]
        began = time.monotonic()
        # Logits: a sigmoid would make high scores equal.
        found = self._model.predict(
            pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False
        )
        seconds = round(time.monotonic() - began, 4)
        return PairScores([float(value) for value in found], self._tokens(pairs), seconds)

    def _tokens(self, pairs: Sequence[tuple[str, str]]) -> int:
        """What the model reads of the pairs, cut as it cuts them, without padding."""
        read = self._model.tokenizer(
            [query for query, _ in pairs],
            [text for _, text in pairs],
            truncation=True,
            max_length=self._model.max_seq_length,
        )
        return sum(map(len, read.input_ids))

    @cached_property
    def _model(self) -> Any:
        from sentence_transformers import CrossEncoder

        try:
            model = CrossEncoder(str(self._folder), device=self._device)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"The cross-encoder {self._name!r} cannot be loaded: {str(error).splitlines()[0]}"
            ) from error
        # Without a head sentence-transformers adds one with random weights.
        heads = model.model.config.architectures or [] if model.model else []
        if len(model) == 1 and not any(name.endswith(_HEAD) for name in heads):
            raise InputError(
                f"{self._name!r} is no cross-encoder: it was saved without a head that scores "
                "pairs."
            )
        if model.num_labels != 1:
            raise InputError(
                f"The cross-encoder {self._name!r} gives {model.num_labels} scores for a pair: a "
                "reranker gives one."
            )
        return model

    def _key(self, asked: Comparison) -> str:
        parts = [self.revision, asked.query, asked.texts]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
