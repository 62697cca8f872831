"""ImageIndex against brute force, and what becomes of it when things go wrong."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.common.errors import GrapeError, InputError
from models.retriever import image_index
from models.retriever.image_index import ImageIndex
from models.retriever.manifest import MANIFEST, EncoderFingerprint, IndexOptions, read_manifest
from models.retriever.types import Vectors
from tests.support.vectors import DIM, unit_vectors


def build(vectors: Vectors, fingerprint: EncoderFingerprint, factory: str = "Flat") -> ImageIndex:
    ids = [f"picture-{number}" for number in range(len(vectors))]
    options = IndexOptions(factory)
    return ImageIndex.build(vectors, ids, [{} for _ in ids], fingerprint, options)


FINGERPRINT = EncoderFingerprint(
    name="t",
    pretrained=None,
    weights_sha256="",
    preprocess_sha256="",
    tokenizer_sha256="",
    dim=DIM,
)


@settings(deadline=None, max_examples=200)
@given(
    count=st.integers(0, 40),
    copies=st.integers(1, 4),
    k=st.integers(1, 60),
    seed=st.integers(0, 99),
)
def test_search_agrees_with_brute_force(count: int, copies: int, k: int, seed: int) -> None:
    vectors = np.repeat(unit_vectors(count, seed), copies, axis=0)  # duplicates on purpose
    queries = unit_vectors(3, seed + 1000)
    for query, hits in zip(queries, build(vectors, FINGERPRINT).search(queries, k), strict=True):
        expected = np.sort(vectors @ query)[::-1][:k]
        positions = [hit.position for hit in hits]
        assert len(set(positions)) == len(hits) == min(k, len(vectors))
        scores = np.array([hit.score for hit in hits], dtype=np.float32)
        np.testing.assert_allclose(scores, expected, atol=1e-5)
        np.testing.assert_allclose(scores, vectors[positions] @ query, atol=1e-5)


def test_empty_index_and_no_query(fingerprint: EncoderFingerprint) -> None:
    empty = build(unit_vectors(0), fingerprint)
    assert empty.search(unit_vectors(2), 5) == [[], []]
    assert build(unit_vectors(3), fingerprint).search(unit_vectors(0), 5) == []


def test_unreached_entries_of_an_approximate_index_are_left_out(
    fingerprint: EncoderFingerprint,
) -> None:
    index = build(unit_vectors(200), fingerprint, "IVF40,Flat")  # one of 40 cells is probed
    (hits,) = index.search(unit_vectors(1), 200)
    assert 0 < len(hits) < 200
    assert all(hit.position >= 0 for hit in hits)


def test_round_trip_keeps_everything(tmp_path: Path, fingerprint: EncoderFingerprint) -> None:
    vectors = unit_vectors(5)
    ids = ["a b.jpg", "ü/日本.png", "x", "y", "z"]
    records = [{"file": name, "deep": {"list": [1, None]}} for name in ids]
    options = IndexOptions(pictures=tmp_path)
    ImageIndex.build(vectors, ids, records, fingerprint, options).save(tmp_path / "i")
    opened = ImageIndex.open(tmp_path / "i", fingerprint)
    assert list(opened.ids) == ids
    assert list(opened.metadata) == records
    assert opened.ids[1:4:2] == ids[1:4:2]
    assert opened.ids[-1] == "z"
    assert [opened.position(name) for name in (*ids, "other", "\ud800")] == [
        0,
        1,
        2,
        3,
        4,
        None,
        None,
    ]
    assert opened.search(vectors, 1) == [
        [hit] for hit, *_ in ImageIndex.open(tmp_path / "i", fingerprint).search(vectors, 3)
    ]
    assert [hits[0].position for hits in opened.search(vectors, 1)] == [0, 1, 2, 3, 4]
    assert read_manifest(tmp_path / "i").count == 5


def test_saving_again_replaces_and_leaves_nothing_behind(
    tmp_path: Path, fingerprint: EncoderFingerprint
) -> None:
    build(unit_vectors(4, 1), fingerprint).save(tmp_path)
    build(unit_vectors(6, 2), fingerprint).save(tmp_path)
    assert len(ImageIndex.open(tmp_path, fingerprint)) == 6
    assert len(list(tmp_path.iterdir())) == 4  # the manifest, two data files and the lock


def test_another_encoder_is_refused_by_name(
    tmp_path: Path, fingerprint: EncoderFingerprint
) -> None:
    build(unit_vectors(2), fingerprint).save(tmp_path)
    other = fingerprint.model_copy(update={"name": "ViT-Other", "weights_sha256": "d" * 64})
    with pytest.raises(InputError, match=r"built with the encoder ViT-Test.*with ViT-Other"):
        ImageIndex.open(tmp_path, other)
    moved = fingerprint.model_copy(update={"name": "local-dir:/elsewhere"})
    assert len(ImageIndex.open(tmp_path, moved)) == 2  # the same weights by another name


@pytest.mark.parametrize(
    "damage", ["vectors", "items", "manifest", "order", "old format", "new format", "no folder"]
)
def test_a_broken_index_is_refused(
    tmp_path: Path, fingerprint: EncoderFingerprint, damage: str
) -> None:
    build(unit_vectors(3), fingerprint).save(tmp_path)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    items = tmp_path / manifest["items"]["name"]
    if damage == "vectors":
        path = tmp_path / manifest["vectors"]["name"]
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "items":
        items.write_bytes(items.read_bytes()[:-20])
    elif damage == "manifest":
        (tmp_path / MANIFEST).write_text("{}")
    elif damage == "order":
        with sqlite3.connect(items) as database:  # the same size
            database.execute("UPDATE items SET id = 'picture-9' WHERE position = 0")
    elif damage.endswith("format"):
        given = 1 if damage == "old format" else 99
        (tmp_path / MANIFEST).write_text(json.dumps({"format": given}))
    folder = tmp_path / "nowhere" if damage == "no folder" else tmp_path
    remedies = {
        "old format": "has format 1, but this version reads 2: build it again",
        "new format": "has format 99, .* update grape",
        "no folder": "make one with `grape index build",
    }
    with pytest.raises(InputError, match=remedies.get(damage, "build (it|the index) again")):
        ImageIndex.open(folder, fingerprint)


def test_ids_must_be_unique_and_factories_known(fingerprint: EncoderFingerprint) -> None:
    with pytest.raises(InputError, match="'a' stands for two"):
        ImageIndex.build(unit_vectors(2), ["a", "a"], [{}, {}], fingerprint)
    with pytest.raises(InputError, match="'Nonsense'"):
        build(unit_vectors(2), fingerprint, "Nonsense")
    with pytest.raises(InputError, match="IVF256"):
        build(unit_vectors(2), fingerprint, "IVF256,Flat")


def test_a_killed_save_leaves_the_old_index_whole(
    tmp_path: Path, fingerprint: EncoderFingerprint
) -> None:
    build(unit_vectors(3), fingerprint).save(tmp_path)
    script = f"""
        import os, signal
        import models.common.files
        from models.retriever.image_index import ImageIndex
        from tests.support.vectors import unit_vectors
        from models.retriever.manifest import EncoderFingerprint
        f = EncoderFingerprint.model_validate_json({fingerprint.model_dump_json()!r})
        real = os.replace
        def die_at_the_manifest(source, target):
            if str(target).endswith("manifest.json"):
                os.kill(os.getpid(), signal.SIGKILL)
            real(source, target)
        models.common.files.os.replace = die_at_the_manifest
        from pathlib import Path
        ids = [str(n) for n in range(9)]
        index = ImageIndex.build(unit_vectors(9, 5), ids, [{{}}] * 9, f)
        index.save(Path({str(tmp_path)!r}))
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=os.getcwd())
    assert killed.returncode == -signal.SIGKILL
    assert len(ImageIndex.open(tmp_path, fingerprint)) == 3
    build(unit_vectors(4), fingerprint).save(tmp_path)
    assert len(ImageIndex.open(tmp_path, fingerprint)) == 4


def test_a_full_disk_leaves_the_old_index_whole(
    tmp_path: Path, fingerprint: EncoderFingerprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(unit_vectors(3), fingerprint).save(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("models.common.files.os.fsync", full)
    with pytest.raises(GrapeError, match=r"cannot be written \(No space left"):
        build(unit_vectors(9), fingerprint).save(tmp_path)
    monkeypatch.undo()
    assert len(ImageIndex.open(tmp_path, fingerprint)) == 3
    assert len(list(tmp_path.iterdir())) == 4


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(1, 60), st.sampled_from(["Flat", "HNSW8"]), st.booleans())
def test_every_pictures_cosine_or_those_of_the_best(
    count: int, most: int, factory: str, large: bool
) -> None:
    vectors, queries = unit_vectors(count, 1), unit_vectors(3, 2)
    index = build(vectors, FINGERPRINT, factory)
    with pytest.MonkeyPatch.context() as patched:
        if large:
            patched.setattr(image_index, "EXACT_UP_TO", 0)
        found = index.score(queries, most)
    assert len(found) == 3
    for query, scored in zip(queries, found, strict=True):
        cosines = vectors @ query
        assert scored.positions.tolist() == sorted(set(scored.positions.tolist()))
        np.testing.assert_allclose(scored.cosines, cosines[scored.positions], atol=1e-5)
        if not large:
            assert len(scored.positions) == count
        elif factory == "Flat":
            expected = np.sort(cosines)[::-1][:most]
            np.testing.assert_allclose(np.sort(scored.cosines)[::-1], expected, atol=1e-5)


def test_what_an_approximate_search_does_not_reach_is_left_out(
    fingerprint: EncoderFingerprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_index, "EXACT_UP_TO", 0)
    index = build(unit_vectors(80), fingerprint, "IVF8,Flat")  # one of its eight cells is probed
    for scored in index.score(unit_vectors(5, 3), 80):
        assert 0 < len(scored.positions) < 80
        assert scored.positions.min() >= 0
