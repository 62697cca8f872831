"""ImageIndex: FAISS vectors, ids and metadata in one folder, bound to one encoder."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np

from models.common.errors import InputError
from models.common.files import write_file
from models.retriever.manifest import (
    FORMAT,
    MANIFEST,
    EncoderFingerprint,
    IndexManifest,
    read_manifest,
)
from models.retriever.types import Hit, Metadata, Scored, Vectors

EXACT_UP_TO = 50_000  # pictures; of a larger index a search scores the best ones alone
# How many: always the same, as the softmax over them, and so every score, depends on it.
REACHED = 1_024


class IndexOptions(NamedTuple):
    """How an index is stored, and where its images come from.

    Attributes:
        factory: FAISS factory string, for example ``Flat`` (exact), ``HNSW32``, ``IVF256,Flat``.
        pictures: folder that the ``file`` of each metadata record is relative to.
        credit: attribution that the licence of the images asks for.
    """

    factory: str = "Flat"
    pictures: Path | None = None
    credit: str | None = None


_EXACT = IndexOptions()


class ImageIndex:
    """Vectors in FAISS, with one id and one metadata record per vector.

    Created by :meth:`build` or :meth:`open`. Searching changes nothing and is thread-safe.
    """

    def __init__(
        self,
        manifest: IndexManifest,
        vectors: faiss.Index,
        ids: list[str],
        metadata: list[Metadata],
    ) -> None:
        self.manifest = manifest
        self.ids = ids
        self.metadata = metadata
        self._vectors = vectors
        self._positions = {picture_id: position for position, picture_id in enumerate(ids)}

    @classmethod
    def build(
        cls,
        vectors: Vectors,
        ids: Sequence[str],
        metadata: Sequence[Metadata],
        encoder: EncoderFingerprint,
        options: IndexOptions = _EXACT,
    ) -> "ImageIndex":
        """Indexes unit vectors, float32 ``[n, dim]``.

        Args:
            ids: unique, in the order of the vectors.
            metadata: one JSON object for each vector.

        Raises:
            InputError: a duplicate id, an invalid factory string, or too few vectors for it.
        """
        assert len(vectors) == len(ids) == len(metadata)
        _require_unique(ids)
        manifest = IndexManifest(
            format=FORMAT,
            encoder=encoder,
            count=len(ids),
            metric="inner_product",
            factory=options.factory,
            ids_sha256=_ids_hash(ids),
            vectors_file="",
            items_file="",
            pictures=str(options.pictures.resolve()) if options.pictures else None,
            credit=options.credit,
        )
        store = _faiss_index(vectors, encoder.dim, options.factory)
        return cls(manifest, store, list(ids), list(metadata))

    def save(self, folder: Path) -> None:
        """Writes the index. A crash half-way, or a reader of the folder, keeps the old one."""
        folder.mkdir(parents=True, exist_ok=True)
        vectors = faiss.serialize_index(self._vectors).tobytes()
        items = "".join(
            json.dumps({"id": picture_id, **record}, ensure_ascii=False) + "\n"
            for picture_id, record in zip(self.ids, self.metadata, strict=True)
        ).encode()
        self.manifest = self.manifest.model_copy(
            update={
                "vectors_file": f"vectors-{hashlib.sha256(vectors).hexdigest()[:16]}.faiss",
                "items_file": f"items-{hashlib.sha256(items).hexdigest()[:16]}.jsonl",
            }
        )
        write_file(folder / self.manifest.vectors_file, vectors)
        write_file(folder / self.manifest.items_file, items)
        write_file(folder / MANIFEST, (self.manifest.model_dump_json(indent=2) + "\n").encode())
        for stale in _data_files(folder):
            if stale.name not in (self.manifest.vectors_file, self.manifest.items_file):
                stale.unlink(missing_ok=True)

    @classmethod
    def open(cls, folder: Path, encoder: EncoderFingerprint) -> "ImageIndex":
        """Opens an index with the encoder that built it.

        Raises:
            InputError: no index in the folder, a broken one, or one that another encoder built.
        """
        manifest = read_manifest(folder)
        if not manifest.encoder.same_vectors(encoder):
            raise InputError(
                f"The index {folder} was built with the encoder {manifest.encoder} and cannot be "
                f"opened with {encoder}: start with the first one, or build the index again."
            )
        try:
            raw = np.fromfile(folder / manifest.vectors_file, dtype=np.uint8)
            vectors = faiss.deserialize_index(raw)
            with open(folder / manifest.items_file, encoding="utf-8") as lines:
                metadata: list[Metadata] = [json.loads(line) for line in lines]
            ids: list[str] = [record.pop("id") for record in metadata]
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise InputError(f"The index {folder} is broken ({error}): build it again.") from error
        if _ids_hash(ids) != manifest.ids_sha256 or vectors.ntotal != len(ids):
            raise InputError(
                f"The index {folder} is broken (its files do not match): build it again."
            )
        return cls(manifest, vectors, ids, metadata)

    def __len__(self) -> int:
        return len(self.ids)

    def position(self, picture_id: str) -> int | None:
        """Position of an id in the index, or None."""
        return self._positions.get(picture_id)

    def learn_known_scores(self, queries: Vectors) -> None:
        """Records how the best image scores for queries that the encoder understands.

        Args:
            queries: unit vectors, float32 ``[q, dim]``, for example of the images' English names.
        """
        best = [hits[0].score for hits in self.search(queries, 1) if hits]
        if best:
            scores = np.percentile(best, np.arange(101)).round(4).tolist()
            self.manifest = self.manifest.model_copy(update={"known_scores": tuple(scores)})

    def vectors(self) -> Vectors:
        """All vectors as stored in the index: float32 ``[count, dim]``."""
        return np.asarray(self._vectors.reconstruct_n(0, len(self)), dtype=np.float32)

    def vector(self, position: int) -> Vectors:
        """One vector as stored in the index: float32 ``[dim]``."""
        # `reconstruct` of an IVF index needs a map that it does not have.
        return np.asarray(self._vectors.reconstruct_n(position, 1)[0], dtype=np.float32)

    def picture_file(self, position: int) -> Path | None:
        """The file of an image, or None. Always below the folder that the index was built from."""
        file = self.metadata[position].get("file")
        if self.manifest.pictures is None or file is None:
            return None
        root = Path(self.manifest.pictures).resolve()
        path = (root / str(file)).resolve()
        return path if path.is_relative_to(root) else None  # a symbolic link may lead outside

    def search(self, queries: Vectors, k: int) -> list[list[Hit]]:
        """The ``k`` nearest images of each query, best first; all of them if there are fewer.

        Args:
            queries: unit vectors, float32 ``[q, dim]``.
        """
        k = min(k, len(self))
        if k == 0 or len(queries) == 0:
            return [[] for _ in queries]
        scores, positions = self._vectors.search(np.ascontiguousarray(queries), k)
        # An approximate index pads with -1 what it did not reach.
        return [
            [Hit(p, s) for p, s in zip(row_p, row_s, strict=True) if p >= 0]
            for row_p, row_s in zip(positions.tolist(), scores.tolist(), strict=True)
        ]

    def score(self, queries: Vectors, most: int = REACHED) -> list[Scored]:
        """Every picture's cosine with each query; in a large index only the best ``most``.

        Args:
            queries: unit vectors, float32 ``[q, dim]``.
        """
        if len(self) <= EXACT_UP_TO:
            everywhere = np.arange(len(self))
            return [Scored(everywhere, cosines) for cosines in queries @ self._all_vectors.T]
        found, positions = self._vectors.search(np.ascontiguousarray(queries), min(most, len(self)))
        scored = []
        for row, cosines in zip(positions, found, strict=True):
            order = np.argsort(row)
            order = order[row[order] >= 0]  # -1 stands for what was not reached
            scored.append(Scored(row[order], cosines[order]))
        return scored

    @cached_property
    def _all_vectors(self) -> Vectors:
        """float32 ``[count, dim]``; of a flat index they are not copied."""
        store = faiss.downcast_index(self._vectors)
        if isinstance(store, faiss.IndexFlat) and len(self):
            flat = faiss.rev_swig_ptr(store.get_xb(), len(self) * store.d)
            return np.asarray(flat, dtype=np.float32).reshape(len(self), store.d)
        return self.vectors()


def _require_unique(ids: Sequence[str]) -> None:
    twice = next((name for name, count in Counter(ids).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"The id {twice!r} stands for two pictures; ids must be unique.")


def _faiss_index(vectors: Vectors, dim: int, factory: str) -> faiss.Index:
    try:
        store = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
        if not store.is_trained:
            store.train(vectors)
        if len(vectors):
            store.add(vectors)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(
            f"FAISS cannot make the index {factory!r} from {len(vectors)} vectors ({reason}); "
            "'Flat' always works."
        ) from error
    return store


def _ids_hash(ids: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def _data_files(folder: Path) -> Iterator[Path]:
    yield from folder.glob("vectors-*.faiss")
    yield from folder.glob("items-*.jsonl")
