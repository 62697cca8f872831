"""ImageIndex: FAISS vectors, ids and metadata in one folder, bound to one encoder."""

import hashlib
import sqlite3
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import faiss
import numpy as np

from models.common.errors import InputError
from models.retriever import faiss_index, index_files
from models.retriever.facets import Facet, facets_of
from models.retriever.filters import Filter
from models.retriever.index import REACHED
from models.retriever.item_store import Item, ItemStore
from models.retriever.manifest import (
    Effort,
    EncoderFingerprint,
    IndexManifest,
    IndexOptions,
    new_manifest,
    read_manifest,
    require_same,
)
from models.retriever.search_effort import EXACT_UP_TO, factory_for, tuned, use
from models.retriever.selection import Selection, select
from models.retriever.shard_pictures import InShard, in_shard, own_file
from models.retriever.types import Hit, Metadata, Scored, Vectors

_MAPPED_ABOVE = 2**26  # bytes; a smaller file is read whole, and compared with its checksum
_ATTEMPTS = 5  # at opening a folder that is written at the same time
_EXACT = IndexOptions()


class ImageIndex:
    """Vectors in FAISS, with one id and one metadata record per vector.

    Created by :meth:`build` or :meth:`open`. Searching changes nothing and is thread-safe.

    Attributes:
        ids: in the order of the vectors; read from disk when it is used.
        metadata: one JSON object for each vector; likewise.
    """

    distant = False
    interrupted = False  # a folder is whole at every moment

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
        return cls.made(vectors, ItemStore.build(map(Item, ids, metadata)), encoder, options)

    @classmethod
    def made(
        cls,
        vectors: Vectors,
        items: ItemStore,
        encoder: EncoderFingerprint,
        options: IndexOptions,
    ) -> "ImageIndex":
        """Indexes unit vectors, and sets how much of a large index a search looks at.

        Raises:
            InputError: an invalid factory string, or too few vectors for it.
        """
        factory = factory_for(options.factory, len(vectors))
        store = faiss_index.make(vectors, encoder.dim, factory)
        index = cls.of(store, items, encoder, options._replace(factory=factory))
        if len(vectors) > EXACT_UP_TO:
            effort, recall = tuned(store, vectors)
            found = {"effort": effort, "recall": round(recall, 4)}
            index.manifest = index.manifest.model_copy(update=found)
        return index

    @classmethod
    def of(
        cls,
        vectors: faiss.Index,
        items: ItemStore,
        encoder: EncoderFingerprint,
        options: IndexOptions,
    ) -> "ImageIndex":
        """An index of parts in the same order."""
        ids = hashlib.sha256("\n".join(items.ids).encode()).hexdigest()
        return cls(new_manifest(encoder, len(items), ids, options), vectors, items)

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
    def open(cls, folder: Path, encoder: EncoderFingerprint, mapped: bool = False) -> "ImageIndex":
        """Opens an index with the encoder that built it.

        Args:
            mapped: reads the vectors of a large index from the disk as they are needed. FAISS
                aborts if anything is added to such an index.

        Raises:
            InputError: no index in the folder, a broken one, or one that another encoder built.
        """
        for _ in range(_ATTEMPTS):
            manifest = read_manifest(folder)
            try:
                return cls._open(folder, manifest, encoder, mapped)
            except (OSError, RuntimeError, ValueError, sqlite3.Error) as error:
                if read_manifest(folder) != manifest:
                    continue  # a new generation has replaced the files that it names
                raise InputError(
                    f"The index {folder} is broken ({error}): build it again."
                ) from error
        raise InputError(f"The index {folder} changes faster than it can be opened: try again.")

    @classmethod
    def _open(
        cls, folder: Path, manifest: IndexManifest, encoder: EncoderFingerprint, mapped: bool
    ) -> "ImageIndex":
        require_same(folder, manifest.encoder, encoder)
        items = ItemStore.open(index_files.checked(folder, manifest.items))
        path = index_files.checked(folder, manifest.vectors)
        vectors = faiss_index.read(path, mapped and manifest.vectors.bytes > _MAPPED_ABOVE)
        if not vectors.ntotal == len(items) == manifest.count or vectors.d != encoder.dim:
            raise ValueError("its files do not match")
        use(vectors, manifest.effort)
        return cls(manifest, vectors, items)

    def __len__(self) -> int:
        return len(self.items)

    def position(self, picture_id: str) -> int | None:
        """Position of an id in the index, or None."""
        return self.items.position(picture_id)

    def some(self, count: int) -> list[Item]:
        """Pictures from all over the index, or all of them if there are fewer."""
        places = np.linspace(0, len(self) - 1, min(count, len(self))).astype(int).tolist()
        return self.items.at(places)

    def select(self, chosen: Filter) -> Selection:
        """The pictures for which a filter is true.

        Raises:
            FilterError: a field that no picture has, or one without values of that kind.
        """
        return select(self.items, chosen)

    def listed(self, chosen: Selection | None = None) -> Sequence[int]:
        """Positions of all pictures, or of those chosen, ascending."""
        return range(len(self)) if chosen is None else list(map(int, chosen.positions))

    def facets(self) -> list[Facet]:
        """What the pictures can be filtered by."""
        return facets_of(self.items)

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
        return own_file(self.manifest.pictures, self.metadata[position])

    def picture(self, position: int) -> Path | InShard | None:
        """Where an image is: its own file, or its place in a shard; None if it is in neither."""
        record = self.metadata[position]
        folder = self.manifest.pictures
        return own_file(folder, record) or in_shard(folder, record)

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
        effort: Sequence[Effort | None] | None = None,
    ) -> list[Scored]:
        """Every picture's cosine with each query; in a large index only the best ``most``.

        Args:
            queries: unit vectors, float32 ``[q, dim]``.
            chosen: the only pictures that each query may reach; None for all of them.
            effort: how much of a large index each query looks at; None for the index's own.
        """
        chosen = chosen or [None] * len(queries)
        effort = effort or [None] * len(queries)
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
        wishes = list(zip(chosen, effort, strict=True))
        for wish in dict.fromkeys(wishes):  # one search for all that share a filter and an effort
            rows = [row for row, own in enumerate(wishes) if own == wish]
            results |= zip(rows, self._best(queries[rows], most, *wish), strict=True)
        return [results[row] for row in range(len(queries))]

    def _best(
        self, queries: Vectors, most: int, some: Selection | None, effort: Effort | None
    ) -> list[Scored]:
        queries, most = np.ascontiguousarray(queries), min(most, len(self))
        if some is not None and not some.count:
            return [Scored(np.zeros(0, np.int64), np.zeros(0, np.float32))] * len(queries)
        if some is not None:
            found, positions = faiss_index.search_selected(
                self._vectors, queries, most, some, effort
            )
        else:
            found, positions = faiss_index.search(self._vectors, queries, most, effort)
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
