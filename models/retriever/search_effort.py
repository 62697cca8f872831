"""Which kind of FAISS index holds so many vectors, and how much of it a search looks at.

An exact search compares every vector. Above some size it is cheaper to look at a part of them: an
IVF index has cells, of which `nprobe` are read, and an HNSW graph is walked with a queue of
`ef_search` vectors. Both are set so that a search finds a stated share of what an exact one finds.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import faiss
import numpy as np

from models.retriever.manifest import Effort
from models.retriever.types import Vectors

AUTO = "auto"
RECALL = 0.95  # of the ten nearest, that is aimed at
EXACT_UP_TO = 50_000  # vectors
_VECTORS_A_CELL = 39  # fewer, and FAISS warns that its cells are too small to be trained
_SAMPLE = 200  # vectors that are searched for
_K = 10
_CHUNK = 65_536  # vectors in a piece of the exact search
_LONGEST_QUEUE = 4_096


class Tuned(NamedTuple):
    """How an index is searched."""

    effort: Effort | None  # None: it has nothing to set
    recall: float  # @10 against an exact search, of a sample of its own vectors


def factory_for(factory: str, count: int) -> str:
    """The FAISS factory string, chosen by the number of vectors if it is ``auto``.

    Up to 50,000 that is ``Flat``. Above, it is an IVF index with about 4 sqrt(count) cells, which
    keeps vectors with 16 bits: half the memory of ``Flat``, and pictures can still be removed.
    """
    if factory != AUTO:
        return factory
    if count <= EXACT_UP_TO:
        return "Flat"
    cells = 2 ** round(np.log2(4 * count**0.5))
    return f"IVF{min(cells, count // _VECTORS_A_CELL)},SQfp16"


def tuned(store: faiss.Index, vectors: Vectors, wanted: float = RECALL) -> Tuned:
    """The least effort that finds the wanted share of the ten nearest; the index is left with it.

    Args:
        vectors: all that the index holds, float32 ``[n, dim]``.
    """
    places = np.random.default_rng(0).choice(len(vectors), min(_SAMPLE, len(vectors)), False)
    queries = np.ascontiguousarray(vectors[places])
    right = _nearest(vectors, queries)
    found = 0.0
    effort: Effort | None = None
    for effort in _efforts(store):
        use(store, effort)
        found = _share(store.search(queries, _K)[1], right)
        if found >= wanted:
            return Tuned(effort, found)
    return Tuned(effort, found or _share(store.search(queries, _K)[1], right))


def use(store: faiss.Index, effort: Effort | None) -> None:
    """Sets how much of an index each search looks at."""
    inner = _approximate(store)
    if effort is None or inner is None:
        return
    if isinstance(inner, faiss.IndexIVF) and effort.nprobe:
        inner.nprobe = effort.nprobe
    if isinstance(inner, faiss.IndexHNSW) and effort.ef_search:
        inner.hnsw.efSearch = effort.ef_search


def parameters(store: faiss.Index, effort: Effort) -> Any:
    """The same for one search; None if this kind of index has nothing to set."""
    inner: Any = faiss.downcast_index(store)
    library: Any = faiss  # its stubs lack search parameters
    if isinstance(inner, faiss.IndexRefine):
        base = parameters(inner.base_index, effort)
        return base and library.IndexRefineSearchParameters(base_index_params=base)
    if isinstance(inner, faiss.IndexIVF):
        return library.SearchParametersIVF(nprobe=effort.nprobe or inner.nprobe)
    if isinstance(inner, faiss.IndexHNSW):
        return library.SearchParametersHNSW(efSearch=effort.ef_search or inner.hnsw.efSearch)
    return None


def _approximate(store: faiss.Index) -> Any:
    """The part of an index that is searched approximately, if any."""
    inner: Any = faiss.downcast_index(store)
    if isinstance(inner, faiss.IndexRefine):
        return _approximate(inner.base_index)
    return inner if isinstance(inner, faiss.IndexIVF | faiss.IndexHNSW) else None


def _efforts(store: faiss.Index) -> Iterator[Effort]:
    """From the least to the greatest, each twice the one before."""
    inner = _approximate(store)
    if isinstance(inner, faiss.IndexIVF):
        number = 1
        while number < inner.nlist:
            yield Effort(nprobe=number)
            number *= 2
        yield Effort(nprobe=inner.nlist)
    if isinstance(inner, faiss.IndexHNSW):
        number = 16
        while number <= _LONGEST_QUEUE:
            yield Effort(ef_search=number)
            number *= 2


def _nearest(vectors: Vectors, queries: Vectors) -> "np.ndarray[Any, Any]":
    """Positions of the ten nearest of each query, exactly."""
    exact = faiss.IndexFlatIP(vectors.shape[1])
    heaps = faiss.ResultHeap(len(queries), min(_K, len(vectors)), keep_max=True)
    for start in range(0, len(vectors), _CHUNK):
        exact.reset()
        exact.add(np.ascontiguousarray(vectors[start : start + _CHUNK]))
        scores, positions = exact.search(queries, min(_K, exact.ntotal))
        heaps.add_result(scores, positions + start)
    heaps.finalize()
    nearest: np.ndarray[Any, Any] = heaps.I
    return nearest


def _share(found: "np.ndarray[Any, Any]", right: "np.ndarray[Any, Any]") -> float:
    pairs = zip(found, right, strict=True)
    return float(np.mean([np.isin(own, these).mean() for these, own in pairs]))
