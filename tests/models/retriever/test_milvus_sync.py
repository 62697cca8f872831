"""A collection that follows its folder, step by step beside an index folder that does."""

import time
from pathlib import Path

import numpy as np
import pytest

from models.common.errors import InputError
from models.retriever import milvus_lease, milvus_write
from models.retriever.address import IndexPlace
from models.retriever.build import Reading, build_from_folder
from models.retriever.change import checked, opened, save, synced
from models.retriever.folder import scan
from models.retriever.image_index import ImageIndex
from models.retriever.milvus_connection import Connection
from models.retriever.milvus_index import MilvusIndex
from models.retriever.sync import compare, without
from tests.support.colours import ColourEncoder, paint
from tests.support.milvus_server import RunningMilvus, new_address

PLAIN = Reading()
RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (90, 90, 90)


class Both:
    """One folder of pictures, and two indexes of it."""

    def __init__(self, folder: Path, running: RunningMilvus) -> None:
        self.pictures = folder / "pictures"
        for name, colour in (("a", RED), ("b", GREEN), ("deep/c", BLUE)):
            paint(self.pictures / f"{name}.png", colour)
        self.encoder = ColourEncoder()
        self.places: tuple[IndexPlace, IndexPlace] = (folder / "index", new_address(running))
        index = build_from_folder(self.pictures, self.encoder)[0]
        for place in self.places:
            save(index, place)

    def sync(self, reading: Reading | None = None) -> None:
        for place in self.places:
            self.sync_one(place, reading or Reading())
        self.assert_same()

    def sync_one(self, place: IndexPlace, reading: Reading = PLAIN) -> None:
        with opened(place) as index:
            changes = compare(index, self.pictures, scan(self.pictures), reading)
            if changes or index.interrupted:
                done = synced(index, self.pictures, changes, lambda: self.encoder, reading)
                save(done.index, place)

    def remove(self, *ids: str) -> None:
        for place in self.places:
            with opened(place) as index:
                changes = without(index, ids)
                save(synced(index, None, changes, lambda: self.encoder, Reading()).index, place)
        self.assert_same()

    def folder(self) -> ImageIndex:
        return ImageIndex.open(Path(self.places[0]), self.encoder.fingerprint)

    def collection(self) -> MilvusIndex:
        address = self.places[1]
        assert not isinstance(address, Path)
        return MilvusIndex.open(address, self.encoder.fingerprint, strong=True)

    def assert_same(self) -> None:
        theirs, ours = self.folder(), self.collection()
        assert len(ours) == len(theirs)
        items = list(ours.items.located())
        assert [item for _, item in items] == list(theirs.items.items())
        for place, (number, _) in enumerate(items):
            np.testing.assert_array_equal(ours.vector(number), theirs.vector(place))
        assert ours.items.removed == theirs.items.removed
        assert [one.good for one in checked(self.places[1], lambda: self.encoder, 8)] == [True] * 4


@pytest.fixture
def both(tmp_path: Path, server_first: RunningMilvus) -> Both:
    return Both(tmp_path, server_first)


def test_pictures_come_change_move_and_go(both: Both) -> None:
    both.assert_same()
    paint(both.pictures / "new.png", GREY)
    (both.pictures / "a.png").rename(both.pictures / "deep" / "moved.png")
    both.sync()
    paint(both.pictures / "b.png", BLUE)
    (both.pictures / "deep" / "c.png").unlink()
    both.sync()
    both.sync(Reading(record_of=lambda file, described: {"stars": len(file)}))
    both.remove("new.png")
    paint(both.pictures / "again.png", GREY)  # as it was, under another name
    (both.pictures / "new.png").unlink()
    both.sync()
    assert "new.png" in [item.id for _, item in both.collection().items.located()]
    numbers = [number for number, _ in both.collection().items.located()]
    assert numbers != list(range(len(numbers)))  # those of removed pictures are not used again


def test_a_change_that_was_cut_off_is_taken_over(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(both.pictures / "new.png", GREY)
    (both.pictures / "b.png").unlink()
    address = both.places[1]
    with monkeypatch.context() as cut:
        cut.setattr(milvus_write, "save", lambda index: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            both.sync_one(address)
    findings = list(checked(address, lambda: both.encoder, 4))
    assert [one.good for one in findings] == [True, False, True, True]
    assert "run `grape index sync`" in findings[1].sentence
    both.sync()


@pytest.mark.slow
def test_a_second_writer_is_told_at_once(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    address = both.places[1]
    with opened(address):
        started = time.monotonic()
        with (
            pytest.raises(InputError, match="Another process is writing the index"),
            opened(address),
        ):
            pass
        assert time.monotonic() - started < 5
    with opened(address) as index:
        assert not index.interrupted
    # The mark of a writer that was killed ends by itself.
    monkeypatch.setattr(milvus_lease, "_LEASE_S", 0.2)
    assert not isinstance(address, Path)
    dead = Connection(address)
    milvus_lease._take(dead, "host:1:dead")
    time.sleep(1.2)
    with opened(address) as index:
        assert index.interrupted


@pytest.mark.slow
def test_all_of_them_cannot_be_removed(both: Both) -> None:
    with pytest.raises(InputError, match="These are all of the index's pictures"):
        both.remove("a.png", "b.png", "deep/c.png")
    with pytest.raises(InputError, match="There is no picture 'x' in the index"):
        both.remove("x")


@pytest.mark.slow
def test_a_row_that_was_changed_by_others_is_found(both: Both) -> None:
    index = both.collection()
    call, collection = index.items.connection, index.items.collection
    (row,) = index.items.rows('id == "a.png"', ["*"])
    row["vector"] = [float(value) for value in np.roll(row["vector"], 1)]
    call("upsert", collection, data=[row])
    wrong = [
        one.sentence for one in checked(both.places[1], lambda: both.encoder, 8) if not one.good
    ]
    assert "1 of 3 rows are not what was written: a.png" in wrong[0]
