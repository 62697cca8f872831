"""ImageIndex: FAISS vectors, ids and metadata in one folder, bound to one encoder."""

import hashlib
import sqlite3
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np

from models.common.errors import InputError
from models.retriever import faiss_index, index_files
from models.retriever.filters import Filter
from models.retriever.item_store import Item, ItemStore
from models.retriever.manifest import (
    FORMAT,
    EncoderFingerprint,
    IndexManifest,
    Scanned,
    read_manifest,
    require_same,
)
from models.retriever.selection import Selection, select
from models.retriever.shard_pictures import InShard, in_shard
from models.retriever.types import Hit, Metadata, Scored, Vectors

EXACT_UP_TO = 50_000  # pictures; of a larger index a search scores the best ones alone
# How many: always the same, as the softmax over them, and so every score, depends on it.
REACHED = 1_024
_ATTEMPTS = 5  # at opening a folder that is written at the same time


class IndexOptions(NamedTuple):
    """How an index is stored, and where its images come from.

    Attributes:
        factory: FAISS factory string, for example ``Flat`` (exact), ``HNSW32``, ``IVF256,Flat``.
        pictures: folder that the ``file`` of each metadata record is relative to.
        credit: attribution that the licence of the images asks for.
        scanned: how the folder was looked through.
    """

    factory: str = "Flat"
    pictures: Path | None = None
    credit: str | None = None
    scanned: Scanned | None = None


_EXACT = IndexOptions()


class ImageIndex:
    """Vectors in FAISS, with one id and one metadata record per vector.

    Created by :meth:`build` or :meth:`open`. Searching changes nothing and is thread-safe.

    Attributes:
        ids: in the order of the vectors; read from disk when it is used.
        metadata: one JSON object for each vector; likewise.
    """

    def __init__(self, manifest: IndexManifest, vectors: faiss.Index, items: ItemStore) -> None:
        self.manifest = manifest
        self.items = items
        self.ids: Sequence[str] = items.ids
        self.metadata: Sequence[Metadata] = items.records
        self._vectors = vectors

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
        items = ItemStore.build(map(Item, ids, metadata))
        store = faiss_index.make(vectors, encoder.dim, options.factory)
        return cls.of(store, items, encoder, options)

    @classmethod
    def of(
        cls,
        vectors: faiss.Index,
        items: ItemStore,
        encoder: EncoderFingerprint,
        options: IndexOptions,
    ) -> "ImageIndex":
        """An index of parts in the same order."""
        manifest = IndexManifest(
            format=FORMAT,
            encoder=encoder,
            count=len(items),
            metric="inner_product",
            factory=options.factory,
            ids_sha256=_ids_hash(items),
            pictures=str(options.pictures.resolve()) if options.pictures else None,
            credit=options.credit,
            scanned=options.scanned,
        )
        return cls(manifest, vectors, items)

    def save(self, folder: Path) -> None:
        """Writes the index. A crash half-way, or a reader of the folder, keeps the old one.

        Raises:
            InputError: another process is writing the index.
            GrapeError: a full disk, or a folder that cannot be written.
        """
        self.manifest = index_files.save(
            folder,
            self.manifest,
            lambda path: faiss.write_index(self._vectors, str(path)),
            self.items.write,
        )

    @classmethod
    def open(cls, folder: Path, encoder: EncoderFingerprint) -> "ImageIndex":
        """Opens an index with the encoder that built it.

        Raises:
            InputError: no index in the folder, a broken one, or one that another encoder built.
        """
        for _ in range(_ATTEMPTS):
            manifest = read_manifest(folder)
            try:
                return cls._open(folder, manifest, encoder)
            except (OSError, RuntimeError, ValueError, sqlite3.Error) as error:
                if read_manifest(folder) != manifest:
                    continue  # a new generation has replaced the files that it names
                raise InputError(
                    f"The index {folder} is broken ({error}): build it again."
                ) from error
        raise InputError(f"The index {folder} changes faster than it can be opened: try again.")

    @classmethod
    def _open(
        cls, folder: Path, manifest: IndexManifest, encoder: EncoderFingerprint
    ) -> "ImageIndex":
        require_same(folder, manifest.encoder, encoder)
        items = ItemStore.open(index_files.checked(folder, manifest.items))
        raw = np.fromfile(index_files.checked(folder, manifest.vectors), dtype=np.uint8)
        vectors = faiss.deserialize_index(raw)
        if not vectors.ntotal == len(items) == manifest.count or vectors.d != encoder.dim:
            raise ValueError("its files do not match")
        return cls(manifest, vectors, items)

    def __len__(self) -> int:
        return len(self.items)

    def position(self, picture_id: str) -> int | None:
        """Position of an id in the index, or None."""
        return self.items.position(picture_id)

    def select(self, chosen: Filter) -> Selection:
        """The pictures for which a filter is true.

        Raises:
            FilterError: a field that no picture has, or one without values of that kind.
        """
        return select(self.items, chosen)

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

    @property
    def faiss(self) -> faiss.Index:
        """The vectors as FAISS holds them. Must not be changed."""
        return self._vectors

    def picture_file(self, position: int) -> Path | None:
        """The file of an image, or None. Always below the folder that the index was built from."""
        file = self.metadata[position].get("file")
        if self.manifest.pictures is None or file is None:
            return None
        root = Path(self.manifest.pictures).resolve()
        path = (root / str(file)).resolve()
        return path if path.is_relative_to(root) else None  # a symbolic link may lead outside

    def picture(self, position: int) -> Path | InShard | None:
        """Where an image is: its own file, or its place in a shard; None if it is in neither."""
        if self.manifest.pictures is None:
            return None
        record = self.metadata[position]
        found = in_shard(Path(self.manifest.pictures), record)
        return found or self.picture_file(position)

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

    def score(
        self,
        queries: Vectors,
        most: int = REACHED,
        chosen: Sequence[Selection | None] | None = None,
    ) -> list[Scored]:
        """Every picture's cosine with each query; in a large index only the best ``most``.

        Args:
            queries: unit vectors, float32 ``[q, dim]``.
            chosen: the only pictures that each query may reach; None for all of them.
        """
        chosen = chosen or [None] * len(queries)
        if len(self) <= EXACT_UP_TO:
            everywhere = np.arange(len(self))
            kept = {some: some.positions for some in chosen if some is not None}
            return [
                Scored(everywhere, cosines)
                if some is None
                else Scored(kept[some], cosines[kept[some]])
                for cosines, some in zip(queries @ self._all_vectors.T, chosen, strict=True)
            ]
        results: dict[int, Scored] = {}
        for some in dict.fromkeys(chosen):  # one search for all that share a filter
            rows = [row for row, own in enumerate(chosen) if own is some]
            results |= zip(rows, self._best(queries[rows], most, some), strict=True)
        return [results[row] for row in range(len(queries))]

    def _best(self, queries: Vectors, most: int, some: Selection | None) -> list[Scored]:
        queries, most = np.ascontiguousarray(queries), min(most, len(self))
        if some is not None and not some.count:
            return [Scored(np.zeros(0, np.int64), np.zeros(0, np.float32))] * len(queries)
        if some is not None:
            found, positions = faiss_index.search_selected(self._vectors, queries, most, some)
        else:
            found, positions = self._vectors.search(queries, most)
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


def _ids_hash(items: ItemStore) -> str:
    return hashlib.sha256("\n".join(items.ids).encode()).hexdigest()
