"""Bringing an index up to date: what is encoded, what keeps its id and its vector."""

import os
from pathlib import Path

import numpy as np
import pytest

from models.common.errors import InputError
from models.retriever.build import Reading, build_from_folder
from models.retriever.check import check
from models.retriever.folder import scan, scan_files
from models.retriever.image_index import ImageIndex
from models.retriever.sync import Changes, added, compare, pictures_folder, synced, without
from models.search.known_scores import learn
from tests.support.colours import Colour, ColourEncoder, paint, vector_of

RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (90, 90, 90)


class Gallery:
    """A folder of pictures and its index."""

    def __init__(self, folder: Path, factory: str = "Flat") -> None:
        self.pictures = folder / "pictures"
        self.folder = folder / "index"
        for name, colour in (("a", RED), ("b", GREEN), ("deep/c", BLUE)):
            paint(self.pictures / f"{name}.png", colour)
        self.encoder = ColourEncoder()
        build_from_folder(self.pictures, self.encoder, factory)[0].save(self.folder)
        self.encoder.encoded = 0

    def open(self) -> ImageIndex:
        return ImageIndex.open(self.folder, self.encoder.fingerprint)

    def apply(self, index: ImageIndex, changes: Changes) -> ImageIndex:
        done = synced(index, self.pictures, changes, lambda: self.encoder)
        done.index.save(self.folder)
        self.skipped = done.skipped
        return self.open()

    def sync(self) -> ImageIndex:
        index = self.open()
        return self.apply(index, compare(index, self.pictures, scan(self.pictures)))

    def colours(self) -> dict[str, Colour]:
        """What the index knows, by id: it must fit the files."""
        found: dict[str, Colour] = {}
        index = self.open()
        for place, item in enumerate(index.items.items()):
            colour = next(
                one for one in (RED, GREEN, BLUE, GREY)
                if np.array_equal(index.vector(place), vector_of(one))
            )  # fmt: skip
            found[item.id] = colour
        return found


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery(tmp_path)


def test_only_what_is_new_is_encoded_and_a_move_keeps_id_and_vector(gallery: Gallery) -> None:
    pictures = gallery.pictures
    (pictures / "a.png").rename(pictures / "deep" / "moved.png")
    paint(pictures / "new.png", GREY)
    index = gallery.sync()
    assert gallery.encoder.encoded == 1
    assert gallery.colours() == {"a.png": RED, "b.png": GREEN, "deep/c.png": BLUE, "new.png": GREY}
    place = index.position("a.png")
    assert place is not None
    assert index.picture_file(place) == pictures / "deep" / "moved.png"
    paint(pictures / "a.png", BLUE)  # its id is taken by the one that moved
    names = set(gallery.sync().ids) - set(index.ids)
    assert [name.startswith("a.png~") for name in names] == [True]


def test_content_that_changed_keeps_its_id_and_gets_a_new_vector(gallery: Gallery) -> None:
    paint(gallery.pictures / "b.png", GREY)
    os.utime(gallery.pictures / "a.png")  # touched, but the same
    gallery.sync()
    assert gallery.encoder.encoded == 1
    assert gallery.colours() == {"a.png": RED, "b.png": GREY, "deep/c.png": BLUE}


def test_two_files_that_change_places(gallery: Gallery) -> None:
    a, b = gallery.pictures / "a.png", gallery.pictures / "b.png"
    a.rename(gallery.pictures / "x")
    b.rename(a)
    (gallery.pictures / "x").rename(b)
    index = gallery.sync()
    assert gallery.encoder.encoded == 0
    assert gallery.colours()["a.png"] == RED
    files = {item.id: item.record["file"] for item in index.items.items()}
    assert files == {"a.png": "b.png", "b.png": "a.png", "deep/c.png": "deep/c.png"}


def test_a_removed_picture_comes_back_with_its_id(gallery: Gallery) -> None:
    a = gallery.pictures / "a.png"
    a.rename(gallery.pictures / "z.png")
    gallery.sync()
    away = (gallery.pictures / "z.png").rename(gallery.folder / "away")
    assert set(gallery.sync().ids) == {"b.png", "deep/c.png"}
    away.rename(gallery.pictures / "again.png")
    assert set(gallery.sync().ids) == {"a.png", "b.png", "deep/c.png"}


def test_nothing_to_do_is_seen_without_reading_a_picture(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.retriever.sync.stamp_of", lambda path: pytest.fail(f"read {path}"))
    index = gallery.open()
    assert not compare(index, gallery.pictures, scan(gallery.pictures))


def test_add_and_remove(gallery: Gallery) -> None:
    paint(gallery.pictures / "new.png", GREY)
    paint(gallery.pictures / "other.png", GREY)
    index = gallery.open()
    assert pictures_folder(index) == gallery.pictures
    found = scan_files(gallery.pictures, [gallery.pictures / "new.png"])
    index = gallery.apply(index, added(index, gallery.pictures, found))
    assert list(index.ids) == ["a.png", "b.png", "deep/c.png", "new.png"]
    index = gallery.apply(index, without(index, ["a.png", "new.png"]))
    assert gallery.colours() == {"b.png": GREEN, "deep/c.png": BLUE}
    for wrong, sentence in (
        (lambda: without(index, ["a.png"]), "no picture 'a.png' in the index"),
        (lambda: without(index, list(index.ids)), "delete its folder instead"),
        (lambda: scan_files(gallery.pictures, [gallery.folder / "manifest.json"]), "is not in"),
        (lambda: scan_files(gallery.pictures, [gallery.pictures / "no.png"]), "is not a file"),
    ):
        with pytest.raises(InputError, match=sentence):
            wrong()


def test_another_folder_or_an_empty_one_removes_nothing(gallery: Gallery, tmp_path: Path) -> None:
    paint(tmp_path / "elsewhere" / "x.png", GREY)
    index = gallery.open()
    with pytest.raises(InputError, match="is its disk mounted"):
        compare(index, tmp_path / "elsewhere", scan(tmp_path / "elsewhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no picture in"):
        scan(tmp_path / "empty")


def test_pictures_in_a_folder_that_cannot_be_read_stay(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def closed(path: Path) -> object:
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr("models.retriever.folder.os.scandir", closed)
    found = scan(gallery.pictures)
    assert [(left.path, left.kind) for left in found.left_out] == [("deep", "unreadable folder")]
    assert not compare(gallery.open(), gallery.pictures, found)


def test_a_picture_that_breaks_leaves_the_index_with_a_reason(gallery: Gallery) -> None:
    (gallery.pictures / "b.png").write_bytes(b"\x89PNG broken")
    gallery.sync()
    assert gallery.skipped[0][0] == "b.png"
    assert gallery.colours() == {"a.png": RED, "deep/c.png": BLUE}
    index = gallery.open()
    again = compare(index, gallery.pictures, scan(gallery.pictures))
    assert list(again.new) == ["b.png"]
    done = synced(index, gallery.pictures, again, lambda: gallery.encoder)
    assert not done.differs, "it would be written anew each time"


def test_what_cannot_be_read_now_stays(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in gallery.pictures.rglob("*.png"):
        os.utime(path, (1, 1))  # as after a backup is restored

    def refused(path: Path) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("models.retriever.sync.stamp_of", refused)
    index = gallery.open()
    assert not compare(index, gallery.pictures, scan(gallery.pictures))


def test_an_index_is_never_emptied_by_pictures_that_break(gallery: Gallery) -> None:
    for path in gallery.pictures.rglob("*.png"):
        path.write_bytes(b"\x89PNG broken")
    with pytest.raises(InputError, match="None of the pictures can be read"):
        gallery.sync()
    assert len(gallery.open()) == 3


def test_a_changed_picture_keeps_what_was_known_of_it(gallery: Gallery) -> None:
    index = gallery.open()
    known = Reading(record_of=lambda path, _: {"stars": 5} if path == "b.png" else {})
    changes = compare(index, gallery.pictures, scan(gallery.pictures), known)
    synced(index, gallery.pictures, changes, lambda: gallery.encoder, known).index.save(
        gallery.folder
    )
    paint(gallery.pictures / "b.png", GREY)
    index = gallery.sync()
    place = index.position("b.png")
    assert place is not None
    assert index.items.at([place])[0].record == {"file": "b.png", "stars": 5}
    assert gallery.colours()["b.png"] == GREY


def test_compressed_vectors_can_be_added_to_but_not_moved(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path, "SQ8")
    paint(gallery.pictures / "new.png", GREY)
    assert len(gallery.sync()) == 4
    (gallery.pictures / "a.png").unlink()
    with pytest.raises(InputError, match="stores its vectors compressed"):
        gallery.sync()


def test_known_scores_follow_the_pictures(gallery: Gallery) -> None:
    index, _ = build_from_folder(gallery.pictures, gallery.encoder)
    learn(index, lambda: gallery.encoder, ["a", "bb"])
    index.save(gallery.folder)
    before = gallery.open().manifest
    assert before.known_from == "queries"
    paint(gallery.pictures / "new.png", (2, 1, 1))  # just the vector of "bb"
    index = gallery.open()
    done = synced(
        index, gallery.pictures, compare(index, gallery.pictures, scan(gallery.pictures)),
        lambda: gallery.encoder,
    ).index  # fmt: skip
    assert done.items.known_queries == ["a", "bb"]
    learn(done, lambda: gallery.encoder)
    assert done.manifest.known_scores
    assert before.known_scores
    assert done.manifest.known_scores[-1] == 1 > before.known_scores[-1]


def test_check_finds_what_is_wrong(gallery: Gallery) -> None:
    def wrong() -> list[str]:
        findings = check(gallery.folder, lambda: gallery.encoder)
        return [finding.sentence for finding in findings if not finding.good]

    assert wrong() == []
    paint(gallery.pictures / "b.png", GREY)
    assert "1 of 3 pictures have another vector than the index: b.png" in wrong()[0]
    (gallery.pictures / "a.png").unlink()
    assert "1 files of pictures are missing: a.png" in wrong()[0]
    (data,) = gallery.folder.glob("vectors-*")
    data.write_bytes(data.read_bytes()[:-1] + b"\1")
    assert "vectors: vectors-" in wrong()[0]
    assert "is not what was saved" in wrong()[0]
