"""An index with its encoder, as evaluation searches it."""

from collections.abc import Sequence

import numpy as np

from models.common.errors import InputError
from models.retriever.image_index import ImageIndex
from models.retriever.types import Encoder, Vectors
from models.search.gate import GateInput
from models.search.negation import demoted
from models.search.plan import Plan
from models.search.query import Reference
from models.search.searches import Search, search_vectors
from training.data.rows import Row
from training.rewards.ranking import Corpus


class Gallery:
    """Remembers the vectors of texts: most systems search for the same ones."""

    def __init__(self, encoder: Encoder, index: ImageIndex, device: str) -> None:
        self.encoder = encoder
        self.index = index
        self.corpus = Corpus.of(index.vectors(), device)
        self._texts: dict[str, Vectors] = {}

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32 ``[n, dim]``; only texts that are new are encoded."""
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        self._texts.update(zip(new, self.encoder.encode_texts(new), strict=True))
        if not texts:
            return np.zeros((0, self.encoder.fingerprint.dim), np.float32)
        return np.stack([self._texts[text] for text in texts])

    def vectors(self, searches: Sequence[Search]) -> Vectors:
        """One unit vector for each search, float32 ``[n, dim]``."""
        return search_vectors([search.parts for search in searches], self)

    def best_scores(self, searches: Sequence[Search]) -> list[float | None]:
        """The cosine of the best picture in each search; None in an empty index."""
        found = self.index.search(self.vectors(searches), 1)
        return [hits[0].score if hits else None for hits in found]

    def gate_inputs(self, queries: Sequence[str]) -> list[GateInput]:
        """What the gate looks at."""
        scores = self.best_scores([Search("query", (query,)) for query in queries])
        known = self.index.manifest.known_scores
        return [
            GateInput(self.encoder.text_length(query), score, known)
            for query, score in zip(queries, scores, strict=True)
        ]

    def is_name(self, text: str) -> bool:
        """Whether a picture is called like this."""
        return self.index.items.has_text(text)

    def demoted(self, plan: Plan) -> list[int]:
        """Positions of the pictures that a plan puts last."""
        if plan.unwanted is None:
            return []
        like, rest = plan.unwanted
        found = self.index.score(self.vectors([*like, *([rest] if rest else [])]))
        positions: list[int] = demoted(found[: len(like)], found[-1] if rest else None).tolist()
        return positions

    def reference(self, row: Row) -> Reference | None:
        """The picture that a row refers to, if it does."""
        if row.reference is None:
            return None
        (position,) = self.places((row.reference,))
        return Reference(self.index.vector(position), position, row.caption, None)

    def positions(self, rows: Sequence[Row]) -> list[list[int]]:
        """Positions of each row's right pictures in the index."""
        return [self.places(row.targets) for row in rows]

    def places(self, pictures: Sequence[str]) -> list[int]:
        """Positions of pictures in the index, by id."""
        found = [self.index.position(picture) for picture in pictures]
        if None in found:
            raise InputError("The data's pictures are not all in the index.")
        return [position for position in found if position is not None]

    @property
    def identity(self) -> tuple[str, ...]:
        """Changes with the pictures, the encoder and the vectors."""
        manifest = self.index.manifest
        return manifest.ids_sha256, manifest.encoder.weights_sha256, manifest.vectors.name
