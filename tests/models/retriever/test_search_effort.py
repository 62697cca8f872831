"""Large indexes: which kind, how much of them a search looks at, and opened from the disk."""

from pathlib import Path

import faiss
import numpy as np
import pytest

from models.retriever import faiss_index, image_index, search_effort
from models.retriever.image_index import ImageIndex
from models.retriever.manifest import Effort, IndexOptions
from models.retriever.selection import Selection
from models.retriever.sync import synced, without
from models.retriever.types import Vectors
from tests.models.retriever.test_image_index import FINGERPRINT
from tests.support.colours import ColourEncoder
from tests.support.vectors import unit_vectors

KINDS = ["IVF64,Flat", "IVF64,SQfp16", "HNSW8", "IVF64,PQ8x4,RFlat", "IVF64,SQ8"]


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_index, "EXACT_UP_TO", 1000)
    monkeypatch.setattr(image_index, "_MAPPED_ABOVE", 0)
    monkeypatch.setattr(search_effort, "EXACT_UP_TO", 1000)


def recall(store: faiss.Index, vectors: Vectors) -> float:
    """@10, on other vectors than the index was tuned with."""
    queries = vectors[1::97] + 0.05 * unit_vectors(len(vectors[1::97]), 9, vectors.shape[1])
    right = np.argsort(-queries @ vectors.T, axis=1)[:, :10]
    found = store.search(np.ascontiguousarray(queries, np.float32), 10)[1]
    return float(np.mean([np.isin(own, these).mean() for own, these in zip(found, right)]))  # noqa: B905


@pytest.mark.parametrize(
    ("count", "factory"),
    [
        (0, "Flat"), (50_000, "Flat"), (60_000, "IVF1024,SQfp16"), (200_000, "IVF2048,SQfp16"),
        (1_000_000, "IVF4096,SQfp16"), (10_000_000, "IVF16384,SQfp16"),
    ],
)  # fmt: skip
def test_the_number_of_vectors_chooses(
    count: int, factory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_effort, "EXACT_UP_TO", 50_000)
    assert search_effort.factory_for("auto", count) == factory
    assert search_effort.factory_for("HNSW32", count) == "HNSW32"


@pytest.mark.parametrize("kind", KINDS[:3])
def test_the_effort_is_the_least_that_finds_enough(kind: str) -> None:
    vectors = unit_vectors(6000, 1, 32)
    store = faiss_index.make(vectors, 32, kind)
    found = search_effort.tuned(store, vectors, 0.9)
    assert found.recall >= 0.9
    assert recall(store, vectors) > 0.85
    assert found.effort
    wished = found.effort.nprobe or found.effort.ef_search or 0
    assert 1 < wished < 4096
    if found.effort.nprobe:
        search_effort.use(store, Effort(nprobe=wished // 4))
        assert recall(store, vectors) < 0.9


def test_an_index_that_cannot_find_enough_looks_at_all_of_itself() -> None:
    vectors = unit_vectors(3000, 1, 32)
    store = faiss_index.make(vectors, 32, "IVF16,PQ2x4")
    found = search_effort.tuned(store, vectors)
    assert found.effort == Effort(nprobe=16)
    assert found.recall < 0.9


def test_a_large_index_is_tuned_saved_and_opened_with_its_effort(tmp_path: Path) -> None:
    vectors = unit_vectors(4000, 1, FINGERPRINT.dim)
    ids = [f"{n}.png" for n in range(4000)]
    index = ImageIndex.build(vectors, ids, [{}] * 4000, FINGERPRINT, IndexOptions("auto"))
    assert index.manifest.factory.startswith("IVF")
    assert index.manifest.recall
    assert index.manifest.recall >= search_effort.RECALL
    index.save(tmp_path)
    opened = ImageIndex.open(tmp_path, FINGERPRINT, mapped=True)
    assert opened.manifest == index.manifest
    queries = unit_vectors(5, 3, FINGERPRINT.dim)
    for own, other in zip(index.score(queries, 50), opened.score(queries, 50), strict=True):
        assert own.positions.tolist() == other.positions.tolist()


def test_an_index_keeps_its_effort_when_pictures_are_removed() -> None:
    vectors = unit_vectors(4000, 1, FINGERPRINT.dim)
    ids = [f"{n}.png" for n in range(4000)]
    index = ImageIndex.build(vectors, ids, [{}] * 4000, FINGERPRINT, IndexOptions("auto"))
    less = synced(index, None, without(index, ids[:5]), ColourEncoder).index
    assert less.manifest.effort == index.manifest.effort
    assert faiss.extract_index_ivf(less.faiss).nprobe == faiss.extract_index_ivf(index.faiss).nprobe
    assert recall(less.faiss, vectors[5:]) > 0.9


def test_a_search_may_look_at_more_or_less() -> None:
    vectors = unit_vectors(4000, 1, FINGERPRINT.dim)
    index = ImageIndex.build(
        vectors, list(map(str, range(4000))), [{}] * 4000, FINGERPRINT, IndexOptions("IVF64,Flat")
    )
    queries = unit_vectors(8, 3, FINGERPRINT.dim)
    efforts = [Effort(nprobe=1), None, Effort(nprobe=64), Effort(ef_search=9)] * 2
    found = index.score(queries, 200, effort=efforts)
    everything = queries @ vectors.T
    for row, (own, effort) in enumerate(zip(found, efforts, strict=True)):
        best = set(np.argsort(-everything[row])[:200].tolist())
        share = len(best & set(own.positions.tolist())) / 200
        if effort == Effort(nprobe=64):
            assert share == 1
        if effort == Effort(nprobe=1):
            assert share < 0.3
    odd = Selection(np.arange(4000) % 2 == 1)
    (chosen,) = index.score(queries[:1], 200, [odd], [Effort(nprobe=64)])
    assert (chosen.positions % 2 == 1).all()
    assert len(chosen.positions) == 200


@pytest.mark.parametrize("kind", KINDS)
def test_a_mapped_index_answers_as_one_in_memory(kind: str, tmp_path: Path) -> None:
    vectors = unit_vectors(3000, 1, 32)
    store = faiss_index.make(vectors, 32, kind)
    faiss.write_index(store, str(tmp_path / "x.faiss"))
    mapped = faiss_index.read(tmp_path / "x.faiss", mapped=True)
    queries = unit_vectors(6, 3, 32)
    for effort in (None, Effort(nprobe=8, ef_search=64)):
        own = faiss_index.search(store, queries, 20, effort)
        other = faiss_index.search(mapped, queries, 20, effort)
        assert own[1].tolist() == other[1].tolist()
    (tmp_path / "x.faiss").unlink()  # as a writer removes the file of an old generation
    assert mapped.search(queries, 20)[1].tolist() == store.search(queries, 20)[1].tolist()


def test_16_bit_vectors_are_kept_when_an_index_is_made_again() -> None:
    vectors = unit_vectors(3000, 1, 32)
    store = faiss_index.make(vectors, 32, "IVF64,SQfp16")
    assert faiss_index.keeps_vectors(store)
    assert not faiss_index.keeps_vectors(faiss_index.make(vectors, 32, "IVF64,SQ8"))
    once = store.reconstruct_n(0, 3000)
    again = faiss_index.make(once, 32, "IVF64,SQfp16").reconstruct_n(0, 3000)
    assert np.array_equal(once, again)
