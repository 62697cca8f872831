"""A collection in Milvus gives what a folder gives: the real server, Milvus Lite, and FAISS."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from models.common import paths
from models.common.errors import IndexDown, InputError
from models.retriever import milvus_index, milvus_write
from models.retriever.address import MilvusAddress
from models.retriever.filters import parse_filter
from models.retriever.image_index import ImageIndex
from models.retriever.manifest import EncoderFingerprint, IndexOptions, read_manifest
from models.retriever.milvus_connection import Connection
from models.retriever.milvus_index import MilvusIndex
from models.retriever.types import Vectors
from models.search.normalise import only_symbol
from tests.models.retriever.test_filtered_search import FINGERPRINT, FULL, filters, records
from tests.support.milvus_server import RunningMilvus, new_address
from tests.support.vectors import unit_vectors


@pytest.fixture(scope="module", params=["milvus", "milvus_lite"], ids=["server", "lite"])
def either(request: pytest.FixtureRequest) -> RunningMilvus:
    found: RunningMilvus = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def gallery() -> ImageIndex:
    """The demo's gallery, opened without its encoder."""
    return ImageIndex.open(paths.index_dir(), read_manifest(paths.index_dir()).encoder)


@pytest.fixture(scope="module")
def demo(either: RunningMilvus, gallery: ImageIndex) -> MilvusIndex:
    """The same as a collection."""
    address = new_address(either)
    assert milvus_write.copy(address, gallery) == []
    index = MilvusIndex.open(address, gallery.manifest.encoder, strong=True)
    assert index.items.count() == len(gallery)
    return MilvusIndex.open(address, gallery.manifest.encoder)


@pytest.fixture(scope="module")
def queries(gallery: ImageIndex) -> Vectors:
    """Between two pictures each."""
    rng = np.random.default_rng(0)
    pairs = gallery.vectors()[rng.choice(len(gallery), (8, 2))].sum(axis=1)
    return np.asarray(pairs / np.linalg.norm(pairs, axis=1, keepdims=True), np.float32)


def test_every_hit_of_the_demo_is_that_of_the_folder(
    demo: MilvusIndex, gallery: ImageIndex, queries: Vectors
) -> None:
    assert len(demo) == len(gallery)
    for ours, theirs in zip(demo.score(queries), gallery.score(queries), strict=True):
        np.testing.assert_array_equal(ours.positions, theirs.positions)
        np.testing.assert_allclose(ours.cosines, theirs.cosines, atol=2e-6)
        some = [hit.position for hit in ours.best(50)]
        cosines = theirs.cosines[some]
        assert (np.diff(cosines) < 2e-6).all()  # the order of all but equal ones
        items = demo.items.found(some)
        assert [items[place] for place in some] == gallery.items.at(some)


def test_a_large_collection_gives_the_best_as_a_large_folder_does(
    demo: MilvusIndex, gallery: ImageIndex, queries: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus_index, "WHOLE_UP_TO", 100)
    monkeypatch.setattr("models.retriever.image_index.EXACT_UP_TO", 100)
    pairs = zip(demo.score(queries, 64), gallery.score(queries, 64), strict=True)
    for ours, theirs in pairs:
        assert len(ours.positions) == 64
        np.testing.assert_allclose(np.sort(ours.cosines), np.sort(theirs.cosines), atol=2e-6)


def test_look_ups_are_those_of_the_folder(demo: MilvusIndex, gallery: ImageIndex) -> None:
    place = gallery.position("1F3B8")
    assert place is not None
    assert demo.position("1F3B8") == place
    assert demo.position("nothing") is None
    np.testing.assert_array_equal(demo.vector(place), gallery.vector(place))
    assert demo.picture(place) == gallery.picture(place)
    for text in ("No Entry", "gesicht ohne mund", "kein Hund", "GUITAR"):
        assert demo.items.has_text(text) == gallery.items.has_text(text), text
    for symbol in ("🎸", "❤", "🏴", "☂", "🇯🇵"):
        ours = demo.items.with_symbol(symbol, only_symbol)
        assert list(ours) == list(gallery.items.with_symbol(symbol, only_symbol)), symbol
    assert len({item.id for item in demo.some(16)}) == 16
    assert demo.manifest.known_scores == gallery.manifest.known_scores


def test_a_local_copy_is_the_folder(demo: MilvusIndex, gallery: ImageIndex) -> None:
    copy = demo.local()
    assert list(copy.ids) == list(gallery.ids)
    assert list(copy.metadata) == list(gallery.metadata)
    np.testing.assert_array_equal(copy.vectors(), gallery.vectors())
    assert copy.manifest.known_scores == gallery.manifest.known_scores


class Filtered:
    """Two indexes of the same records, which are written anew for each example."""

    def __init__(self, running: RunningMilvus) -> None:
        self.running = running
        self.address = new_address(running)

    def both(self, metadata: list[Any]) -> tuple[ImageIndex, MilvusIndex]:
        vectors = unit_vectors(len(metadata))
        ids = [str(number) for number in range(len(vectors))]
        folder = ImageIndex.build(vectors, ids, metadata, FINGERPRINT, IndexOptions())
        milvus_write.copy(self.address, folder)
        assert MilvusIndex.open(self.address, FINGERPRINT, strong=True).items.count() == len(folder)
        # What is there has been seen: a strong read waits a fifth of a second for news.
        fast = MilvusAddress(f"{self.address}?consistency=eventually")
        return folder, MilvusIndex.open(fast, FINGERPRINT)


@pytest.fixture(scope="module")
def many_records() -> list[Any]:
    """Records of every shape that the tests of filters know; one has every field and kind."""
    made: list[Any] = []

    @settings(max_examples=150, derandomize=True, database=None, deadline=None)
    @given(records)
    def collect(record: Any) -> None:
        made.append(record)

    collect()
    return [*made, FULL]


@pytest.fixture(scope="module")
def filtered(
    server_first: RunningMilvus, many_records: list[Any]
) -> tuple[ImageIndex, MilvusIndex]:
    return Filtered(server_first).both(many_records)


@settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(wanted=filters)
def test_filters_leave_the_pictures_that_a_folder_leaves(
    filtered: tuple[ImageIndex, MilvusIndex], wanted: dict[str, Any]
) -> None:
    folder, ours = filtered
    chosen = parse_filter(wanted)
    expected = folder.select(chosen).positions.tolist()
    kept = ours.select(chosen)
    assert ours.items.numbers(kept.condition) == expected


def test_filters_of_other_kinds_of_values(server_first: RunningMilvus) -> None:
    long, hostile = "x" * 300, "\"%_\\' or true"
    metadata = [
        {"n": 2**62, "t": long, "when": "2024-05-01T10:00:00+02:00", "tags": ["a", "b"]},
        {"n": 2**62 + 1, "t": long[:-1] + "y", "when": "2024-05-02", "tags": []},
        {"n": -0.5, "t": hostile, "deep": [{"a": 1}, {"a": 7}], "any": {"x.y": True}},
        {"n": 1e300, "t": "", "deep": {"a": 3}, "many": list(range(256))},
        {},
    ]
    folder, ours = Filtered(server_first).both(metadata)
    deep: dict[str, Any] = {"many": {"gt": 250}}
    for _ in range(3):
        deep = {"not": {"any": [deep, {"n": -0.5}]}}
    wishes: list[dict[str, Any]] = [
        {"any": [{"n": number} for number in (*range(98), -0.5)]}, deep,
        {"n": 2**62}, {"n": {"gt": 2**62}}, {"n": {"gte": 2**62, "lt": 1e300}}, {"n": {"lt": 0}},
        {"t": long}, {"t": {"prefix": "x" * 256}}, {"t": hostile}, {"t": {"prefix": '"%'}},
        {"t": ""}, {"when": {"lte": "2024-05-01"}}, {"when": {"gt": "2024-05-01T08:00:00"}},
        {"tags": {"in": ["b", "z"]}}, {"not": {"tags": "a"}}, {"tags": {"exists": False}},
        {"deep.a": {"gt": 2, "lt": 7}}, {"deep": {"exists": True}}, {"\\any.x\\.y": True},
        {"many": {"gt": 198}}, {"many": 7}, {"any": [{"n": -0.5}, {"n": 1e300}]}, {},
        {"not": {}}, {"all": [{"n": {"lt": 0}}, {"not": {"deep.a": 1}}]},
    ]  # fmt: skip
    for wanted in wishes:
        chosen = parse_filter(wanted)
        expected = folder.select(chosen).positions.tolist()
        assert ours.items.numbers(ours.select(chosen).condition) == expected, wanted
        (scored,) = ours.score(unit_vectors(1, 3), chosen=[ours.select(chosen)])
        assert scored.positions.tolist() == expected, wanted
    some = ours.select(parse_filter({"n": {"lt": 0}}))
    assert [place for place in range(5) if place in some] == [2]
    for wrong, reason in (({"m": 1}, "no picture has the field 'm'"), ({"n": "a"}, "has no text")):
        with pytest.raises(InputError, match=reason):
            ours.select(parse_filter(wrong))


def test_a_batch_may_mix_filters(demo: MilvusIndex, queries: Vectors) -> None:
    some = demo.select(parse_filter({"name": {"prefix": "g"}}))
    found = demo.score(queries[:3], chosen=[some, None, some])
    assert len(found[1].positions) == len(demo)
    assert len(found[0].positions) == len(found[2].positions) == len(
        demo.items.numbers(some.condition)
    )  # fmt: skip


def test_another_encoder_is_refused(demo: MilvusIndex, fingerprint: EncoderFingerprint) -> None:
    address = demo.items.connection.address
    with pytest.raises(InputError, match=r"was built with the encoder .* cannot be opened with"):
        MilvusIndex.open(address, fingerprint)


def test_no_collection_and_one_of_somebody_else(
    either: RunningMilvus, fingerprint: EncoderFingerprint
) -> None:
    missing = new_address(either)
    with pytest.raises(InputError, match=r"There is no collection .* make one with"):
        MilvusIndex.open(missing, fingerprint)
    other = new_address(either)
    connection = Connection(other)
    connection("create_collection", other.collection, dimension=4)
    with pytest.raises(InputError, match="is no index of grape"):
        MilvusIndex.open(other, fingerprint)
    small = ImageIndex.build(unit_vectors(1), ["a"], [{}], FINGERPRINT, IndexOptions())
    with pytest.raises(InputError, match="stays as it is: choose another name"):
        milvus_write.copy(other, small)
    assert connection("has_collection", other.collection)
    connection("drop_collection", other.collection)


@pytest.mark.slow
def test_a_build_that_fails_leaves_the_old_one(
    either: RunningMilvus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus_write, "GRACE_S", 0)
    address = new_address(either)
    first = ImageIndex.build(unit_vectors(3), ["a", "b", "c"], [{}] * 3, FINGERPRINT)
    second = ImageIndex.build(unit_vectors(2), ["a", "b"], [{"x": 1}] * 2, FINGERPRINT)
    milvus_write.copy(address, first)
    with monkeypatch.context() as broken:
        broken.setattr(milvus_write, "save", lambda index: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            milvus_write.copy(address, second)
    connection = Connection(address)
    assert len(milvus_write._owned(connection)) == 1
    assert len(MilvusIndex.open(address, FINGERPRINT)) == 3
    milvus_write.copy(address, second)
    assert len(MilvusIndex.open(address, FINGERPRINT)) == 2
    assert len(milvus_write._owned(connection)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["IVF_FLAT", "HNSW", "IVF_SQ8"])
def test_kinds_of_index(milvus: RunningMilvus, kind: str) -> None:
    vectors = unit_vectors(3000)
    ids = [str(number) for number in range(len(vectors))]
    folder = ImageIndex.build(vectors, ids, [{"n": n} for n in range(3000)], FINGERPRINT)
    address = new_address(milvus)
    milvus_write.copy(address, folder, kind)
    index = MilvusIndex.open(address, FINGERPRINT, strong=True)
    assert index.manifest.factory == kind
    if kind.startswith("IVF"):
        assert index.manifest.effort
        assert index.manifest.recall
        assert index.manifest.recall >= 0.95
    (found,) = index.score(unit_vectors(1, 7), 10)
    assert len(found.best(10)) == 10
    with pytest.raises(InputError, match="--factory is auto, FLAT, HNSW"):
        milvus_write.copy(address, folder, "IVF256,PQ32")


@pytest.mark.slow
def test_metadata_that_is_too_long_is_left_out_and_named(milvus: RunningMilvus) -> None:
    metadata: list[Any] = [{"t": "short"}, {"t": "x" * 70_000}]
    folder = ImageIndex.build(unit_vectors(2), ["a", "b"], metadata, FINGERPRINT)
    ((name, reason),) = milvus_write.copy(address := new_address(milvus), folder)
    assert (name, reason) == (
        "b", "its metadata takes more than 65,535 bytes, which Milvus cannot hold",
    )  # fmt: skip
    assert len(MilvusIndex.open(address, FINGERPRINT)) == 1


def test_a_server_that_is_not_there_is_one_sentence(fingerprint: EncoderFingerprint) -> None:
    with pytest.raises(IndexDown, match="does not answer: is it running") as caught:
        MilvusIndex.open(MilvusAddress("milvus://127.0.0.1:9/pictures"), fingerprint)
    assert "\n" not in str(caught.value)


def test_the_manifest_is_a_property_that_others_can_read(demo: MilvusIndex) -> None:
    connection = Connection(demo.items.connection.address)
    told = connection("describe_collection", demo.items.connection.address.collection)
    manifest = json.loads(told["properties"]["grape.manifest"])
    assert manifest["encoder"]["weights_sha256"] == demo.manifest.encoder.weights_sha256
    assert manifest["count"] == len(demo)
