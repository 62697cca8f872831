"""ImageIndex: FAISS vectors, ids and metadata in one folder, bound to the encoder that made
them.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import faiss
import numpy as np

from models.common.errors import InputError
from models.retriever.manifest import (
    FORMAT,
    MANIFEST,
    EncoderFingerprint,
    IndexManifest,
    read_manifest,
)
from models.retriever.types import Hit, Metadata, Vectors


class ImageIndex:
    """Vectors in FAISS, beside them one id and one metadata record for each.

    Made by :meth:`build` or :meth:`open`. Searching is read only and safe from several threads.
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
        factory: str = "Flat",
        pictures: Path | None = None,
        credit: str | None = None,
    ) -> "ImageIndex":
        """Indexes unit vectors, float32 ``[n, dim]``.

        Args:
            ids: unique, in the order of the vectors.
            factory: FAISS factory string, e.g. ``Flat`` (exact), ``HNSW32``, ``IVF256,Flat``.
            pictures: folder that each record's ``file`` is relative to.
            credit: what the pictures' licence asks to be shown beside them.

        Raises:
            InputError: an id twice, a factory that FAISS does not know, or too few vectors for it.
        """
        assert len(vectors) == len(ids) == len(metadata)
        if len(set(ids)) != len(ids):
            seen: set[str] = set()
            twice = next(i for i in ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
            raise InputError(f"The id {twice!r} stands for two pictures; ids must be unique.")
        try:
            store = faiss.index_factory(encoder.dim, factory, faiss.METRIC_INNER_PRODUCT)
            if not store.is_trained:
                store.train(vectors)
            if len(vectors):
                store.add(vectors)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise InputError(
                f"FAISS cannot make the index {factory!r} of {len(ids)} vectors ({reason}); "
                "'Flat' always works."
            ) from error
        manifest = IndexManifest(
            format=FORMAT,
            encoder=encoder,
            count=len(ids),
            metric="inner_product",
            factory=factory,
            ids_sha256=_ids_hash(ids),
            vectors_file="",
            items_file="",
            pictures=str(pictures.resolve()) if pictures else None,
            credit=credit,
        )
        return cls(manifest, store, list(ids), list(metadata))

    def save(self, folder: Path) -> None:
        """Writes the index; whoever has the folder open, or a crash half-way, keeps the old one."""
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
        _write_durably(folder / self.manifest.vectors_file, vectors)
        _write_durably(folder / self.manifest.items_file, items)
        _write_durably(folder / MANIFEST, (self.manifest.model_dump_json(indent=2) + "\n").encode())
        for stale in _data_files(folder):
            if stale.name not in (self.manifest.vectors_file, self.manifest.items_file):
                stale.unlink(missing_ok=True)

    @classmethod
    def open(cls, folder: Path, encoder: EncoderFingerprint) -> "ImageIndex":
        """Opens an index with the encoder that it was built with.

        Raises:
            InputError: no index there, a broken one, or one that another encoder made.
        """
        manifest = read_manifest(folder)
        if not manifest.encoder.same_vectors(encoder):
            raise InputError(
                f"The index {folder} was built with the encoder {manifest.encoder} and cannot be "
                f"opened with {encoder}: start with that encoder, or build the index again."
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
            raise InputError(f"The index {folder} is broken (its parts differ): build it again.")
        return cls(manifest, vectors, ids, metadata)

    def __len__(self) -> int:
        return len(self.ids)

    def position(self, picture_id: str) -> int | None:
        """Where an id stands in the index."""
        return self._positions.get(picture_id)

    def learn_known_scores(self, queries: Vectors) -> None:
        """Notes in the manifest how the best picture scores for queries that the encoder knows.

        Args:
            queries: unit vectors, float32 ``[q, dim]``, such as of the pictures' English names.
        """
        best = [hits[0].score for hits in self.search(queries, 1) if hits]
        if best:
            scores = np.percentile(best, np.arange(101)).round(4).tolist()
            self.manifest = self.manifest.model_copy(update={"known_scores": tuple(scores)})

    def vectors(self) -> Vectors:
        """Every picture's vector as the index holds it: float32 ``[count, dim]``."""
        return np.asarray(self._vectors.reconstruct_n(0, len(self)), dtype=np.float32)

    def vector(self, position: int) -> Vectors:
        """One picture's vector as the index holds it: float32 ``[dim]``."""
        # An IVF index gives a single one only with a map that it does not have.
        return np.asarray(self._vectors.reconstruct_n(position, 1)[0], dtype=np.float32)

    def picture_file(self, position: int) -> Path | None:
        """The picture's file, where the index names one below the folder that it was built from."""
        file = self.metadata[position].get("file")
        if self.manifest.pictures is None or file is None:
            return None
        root = Path(self.manifest.pictures).resolve()
        path = (root / str(file)).resolve()
        return path if path.is_relative_to(root) else None  # a link may lead out of it

    def search(self, queries: Vectors, k: int) -> list[list[Hit]]:
        """The ``k`` nearest pictures of each query, best first; fewer when there are fewer.

        Args:
            queries: unit vectors, float32 ``[q, dim]``.
        """
        k = min(k, len(self))
        if k == 0 or len(queries) == 0:
            return [[] for _ in queries]
        scores, positions = self._vectors.search(np.ascontiguousarray(queries), k)
        # An approximate index fills up with -1 what it did not reach.
        return [
            [Hit(p, s) for p, s in zip(row_p, row_s, strict=True) if p >= 0]
            for row_p, row_s in zip(positions.tolist(), scores.tolist(), strict=True)
        ]


def _ids_hash(ids: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def _data_files(folder: Path) -> Iterator[Path]:
    yield from folder.glob("vectors-*.faiss")
    yield from folder.glob("items-*.jsonl")


def _write_durably(path: Path, data: bytes) -> None:
    """Beside, on to the disk, then renamed into place."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
