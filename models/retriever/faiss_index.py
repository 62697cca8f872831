"""FAISS: making an index of vectors, extending it, and searching some of its vectors."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from models.common.errors import InputError
from models.retriever.manifest import Effort
from models.retriever.search_effort import parameters
from models.retriever.selection import Selection
from models.retriever.types import Vectors

Found = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]  # scores and positions, [q, k]

_FAISS: Any = faiss  # its stubs lack search parameters
_SCANNED = (faiss.IndexFlat, faiss.IndexScalarQuantizer)  # every vector is compared anyway
_FEW = 20_000  # vectors that are compared one by one sooner than a graph or cells are searched


def make(vectors: Vectors, dim: int, factory: str) -> faiss.Index:
    """An index of unit vectors, float32 ``[n, dim]``, that scores by their inner product.

    Raises:
        InputError: an invalid factory string, or too few vectors for it.
    """
    try:
        store = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
        inner = faiss.downcast_index(store)
        if isinstance(inner, faiss.IndexIVFScalarQuantizer) and _is_fp16(inner):
            inner.by_residual = False  # so that vectors read and added again do not change
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


def read(path: Path, mapped: bool) -> faiss.Index:
    """An index from its file.

    Args:
        mapped: reads it from the disk as it is needed, and nothing can be added to it.

    Raises:
        RuntimeError: it is none.
        OSError: it cannot be read.
    """
    if mapped:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    return faiss.deserialize_index(np.fromfile(path, dtype=np.uint8))


def search(store: faiss.Index, queries: Vectors, k: int, effort: Effort | None = None) -> Found:
    """The ``k`` nearest; positions are -1 where fewer were reached.

    Args:
        queries: unit vectors, float32 ``[q, dim]``.
        effort: how much of the index to look at; None for its own.
    """
    wished = parameters(store, effort) if effort else None
    scores, positions = store.search(queries, k, params=wished)
    return scores, positions


def extended(store: faiss.Index, vectors: Vectors) -> faiss.Index:
    """A copy with more vectors behind the others."""
    longer = faiss.clone_index(store)
    longer.add(vectors)
    return longer


def keeps_vectors(store: faiss.Index) -> bool:
    """Whether the vectors can be read back as they were added."""
    inner = faiss.downcast_index(store)
    if isinstance(inner, faiss.IndexHNSW):
        inner = faiss.downcast_index(inner.storage)
    if isinstance(inner, faiss.IndexIVFScalarQuantizer):
        return _is_fp16(inner) and not inner.by_residual
    kept = (faiss.IndexFlat, faiss.IndexIVFFlat, faiss.IndexRefineFlat)
    return isinstance(inner, kept)


def _is_fp16(store: Any) -> bool:
    return bool(store.sq.qtype == faiss.ScalarQuantizer.QT_fp16)


def search_selected(
    store: faiss.Index,
    queries: Vectors,
    k: int,
    chosen: Selection,
    effort: Effort | None = None,
) -> Found:
    """The ``k`` nearest of some vectors, or all of them if there are fewer.

    A graph, or cells, may not reach enough of them. Then, and where they are few, each of them is
    compared.

    Args:
        queries: unit vectors, float32 ``[q, dim]``.
        effort: how much of the index to look at; None for its own.
    """
    k = min(k, chosen.count)
    if chosen.count <= _FEW:
        return _compare_each(store, queries, k, chosen)
    wished = _parameters(store, chosen, k, effort or Effort())
    if wished is None:
        return _compare_each(store, queries, k, chosen)
    scores, positions = store.search(queries, k, params=wished)
    short = np.flatnonzero((positions < 0).any(axis=1))
    if len(short):
        scores[short], positions[short] = _compare_each(store, queries[short], k, chosen)
    return scores, positions


def _parameters(store: faiss.Index, chosen: Selection, k: int, effort: Effort) -> Any:
    """How this kind of index searches some of its vectors; None if it cannot."""
    inner = faiss.downcast_index(store)
    if isinstance(inner, faiss.IndexHNSW):
        # Neighbours that the filter leaves out take places in the queue: it must be longer.
        longer = int(k * inner.ntotal / chosen.count)
        ef = min(max(effort.ef_search or inner.hnsw.efSearch, longer), inner.ntotal)
        return _FAISS.SearchParametersHNSW(sel=chosen.selector, efSearch=ef)
    if isinstance(inner, faiss.IndexIVF):
        nprobe = effort.nprobe or inner.nprobe
        return _FAISS.SearchParametersIVF(sel=chosen.selector, nprobe=nprobe)
    if isinstance(inner, _SCANNED):
        return _FAISS.SearchParameters(sel=chosen.selector)
    return None


def _compare_each(store: faiss.Index, queries: Vectors, k: int, chosen: Selection) -> Found:
    """Compares every chosen vector, by its stored code where there is no vector."""
    inner = faiss.downcast_index(store)
    if isinstance(inner, faiss.IndexHNSW):
        inner = faiss.downcast_index(inner.storage)
    if isinstance(inner, faiss.IndexRefine):
        inner = faiss.downcast_index(inner.refine_index)
    if isinstance(inner, faiss.IndexIVF):
        cells = _FAISS.SearchParametersIVF(sel=chosen.selector, nprobe=inner.nlist)
        scores, positions = inner.search(queries, k, params=cells)
        return scores, positions
    if isinstance(inner, _SCANNED):
        everywhere = _FAISS.SearchParameters(sel=chosen.selector)
        scores, positions = inner.search(queries, k, params=everywhere)
        return scores, positions
    scores, positions = store.search(queries, store.ntotal)
    kept = np.isin(positions, chosen.positions)
    order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
    reached = np.take_along_axis(kept, order, 1)
    positions = np.where(reached, np.take_along_axis(positions, order, 1), -1)
    return np.take_along_axis(scores, order, 1), positions
