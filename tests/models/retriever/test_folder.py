"""What a folder holds: what is indexed, and what is left out, counted and named."""

import os
from collections import Counter
from pathlib import Path

import pytest

from models.common.errors import InputError
from models.retriever.build import Reading, build_index
from models.retriever.folder import scan
from models.retriever.metadata import Records, read_table
from models.retriever.pictures import PictureError
from models.retriever.shard_pictures import in_shard
from models.retriever.shards import read_shards, read_vectors, shards_of
from tests.models.retriever.test_embedded import LIGHTHOUSE, XMP
from tests.support.colours import ColourEncoder, paint

RED = (255, 0, 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    for name in ("a.png", "b.JFIF", "deep/c.png", "deep/@eaDir/c.png", "#recycle/d.png"):
        target = folder / name
        paint(target.with_suffix(".png"), RED)
        target.with_suffix(".png").rename(target)
    (folder / "deep" / "notes.doc").write_text("x")
    (folder / "orphan.txt").write_text("x")
    (folder / ".hidden.png").write_bytes(b"")
    paint(tmp_path / "outside" / "e.png", RED)
    (folder / "linked.png").symlink_to(tmp_path / "outside" / "e.png")
    (folder / "inside.png").symlink_to(folder / "a.png")
    (folder / "gone.png").symlink_to(folder / "nothing.png")
    (folder / "linked").symlink_to(tmp_path / "outside")
    os.mkfifo(folder / "pipe.png")
    return folder


def test_what_is_left_out_is_named_by_kind(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside" / "secret.txt").write_text("a key")
    (folder / "a.txt").symlink_to(tmp_path / "outside" / "secret.txt")
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "a.json")
    found = scan(folder)
    assert list(found.pictures) == ["a.png", "b.JFIF", "deep/c.png", "inside.png"]
    assert {left.path: left.kind for left in found.left_out} == {
        "deep/@eaDir": "excluded",
        "#recycle": "excluded",
        "deep/notes.doc": "no picture format (.doc)",
        "orphan.txt": "no picture format (.txt)",
        ".hidden.png": "hidden",
        "linked.png": "link out of the folder",
        "gone.png": "broken link",
        "linked": "linked folder",
        "pipe.png": "no regular file",
        "a.txt": "link out of the folder",
        "a.json": "no regular file",
        "loop": "no picture format (no suffix)",
    }
    assert found.counts() == Counter(left.kind for left in found.left_out)


def test_patterns_are_of_names_or_paths(folder: Path) -> None:
    found = scan(folder, ["deep/c.*", "*.JFIF", "@*", "#*"])
    assert list(found.pictures) == ["a.png", "inside.png"]
    everything = scan(folder, []).pictures
    assert "deep/@eaDir/c.png" in everything
    assert "#recycle/d.png" in everything


def test_sidecars_and_a_table_become_metadata(folder: Path) -> None:
    (folder / "a.txt").write_text("\ufeffa red square\n")
    (folder / "a.json").write_text('{"year": 2020, "file": "no", "tags": ["x"]}')
    (folder / "a.png.json").write_text('{"year": 2021}')
    (folder / "a.png.xmp").write_text(XMP)
    (folder / "inside.xmp").write_text("<x")
    (folder / "deep" / "c.json").write_text("[1]")
    table = folder.parent / "table.CSV"
    table.write_text("\ufeffpath,stars,code,good,none\n./a.png,5,007,TRUE,\nx.png,1,1.5,a,b\n")
    found = scan(folder)
    records = Records(folder, found, table)
    pictures = {name: folder / name for name in found.pictures}
    index, report = build_index(
        pictures, folder, ColourEncoder(), reading=Reading(record_of=records.of)
    )
    assert index.metadata[0] == {
        "year": 2021, "file": "a.png", "tags": ["x"], "stars": 5,
        "code": "007", "good": True, **LIGHTHOUSE,
    }  # fmt: skip
    assert index.metadata[2] == {"file": "deep/c.png"}
    assert report.skipped == []
    assert {(left.path, left.kind) for left in records.left_out} == {
        ("x.png", "row of --metadata without a picture"),
        ("deep/c.json", "unreadable sidecar"),
        ("inside.xmp", "unreadable sidecar"),
    }


def test_rows_that_do_not_fit_are_named(tmp_path: Path) -> None:
    for name, content, sentence in (
        ("a.csv", "path,b\nx,1,2\n", r"a\.csv:2 has 3 cells, but the header has 2: put quotes"),
        ("a.ndjson", '\n{"path": "x"}\n{', r"a\.ndjson:3 is not JSON"),
        ("a.jsonl", "[]", r"a\.jsonl:1 is not a JSON object"),
        ("a.tsv", "b\tc\n1\t2\n", r"a\.tsv:2 has a value in none of the columns path"),
        ("a.xlsx", "", r"must end in \.csv"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match=sentence):
            list(read_table(tmp_path / name))
    with pytest.raises(InputError, match="cannot be read"):
        list(read_table(tmp_path / "none.csv"))


def test_parquet_and_tar_shards(tmp_path: Path) -> None:
    import io
    import tarfile

    import pyarrow
    from pyarrow import parquet

    paint(tmp_path / "x.png", RED)
    png = (tmp_path / "x.png").read_bytes()
    rows = [
        {"image": {"bytes": png, "path": "p.png"}, "label": 3, "blob": b"x"},
        {"image": {"bytes": None, "path": "q.png"}, "label": 4, "blob": b"x"},
    ]
    shards = tmp_path / "shards"
    shards.mkdir()
    parquet.write_table(pyarrow.Table.from_pylist(rows), shards / "0.parquet")
    with tarfile.open(shards / "1.tar", "w") as archive:
        for name, data in (
            ("d/k1.jpg", png), ("d/k1.json", b'{"year": 2020}'), ("d/k1.txt", b"a caption"),
            ("k2.txt", b"alone"), ("k3.png", png), ("k3.json", b"{"),
            ("k4.png", png), ("k4.json", b"[1]"), ("k4.mp4", b"not read"),
        ):  # fmt: skip
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    left_out: list[object] = []
    found = list(read_shards(shards_of(shards), left_out))  # type: ignore[arg-type]
    places = [one.record.pop("shard") for one in found]
    assert [(one.id, one.record) for one in found] == [
        ("p.png", {"label": 3}),
        ("d/k1", {"caption": "a caption", "year": 2020}),
        ("k3", {}),
        ("k4", {}),
    ]
    for place in places:
        again = in_shard(str(shards), {"shard": place})
        assert again
        assert again.read() == png
    assert all(one.data == png for one in found)
    assert [left.kind for left in left_out] == [  # type: ignore[attr-defined]
        "row without a picture", "sample without a picture", "unreadable sidecar",
        "unreadable sidecar",
    ]  # fmt: skip
    paint(shards / "deep" / "file.png", RED)
    named = [{"path": "deep/file.png", "n": 1}, {"path": "../x.png"}, {"path": "none.png"},
             {"path": "x" * 5000}, {"path": "a\0b"}]  # fmt: skip
    parquet.write_table(pyarrow.Table.from_pylist(named), shards / "paths.parquet")
    missing: list[object] = []
    (one,) = read_shards([shards / "paths.parquet"], missing)  # type: ignore[arg-type]
    assert one.record == {"n": 1, "shard": {"file": "paths.parquet", "row": 0}}
    assert (one.id, one.data) == ("deep/file.png", png)
    assert len(missing) == 4
    (shards / "1.tar").write_bytes((shards / "1.tar").read_bytes()[:700])
    with pytest.raises(InputError, match="not a whole tar file"):
        list(read_shards([shards / "1.tar"], []))


def test_a_picture_deep_in_a_shard_is_found_again(tmp_path: Path) -> None:
    import tarfile

    import pyarrow
    from pyarrow import parquet

    pictures = [f"picture {n}".encode() for n in range(300)]
    table = pyarrow.table({"id": list(map(str, range(300))), "jpg": pictures})
    parquet.write_table(table, tmp_path / "0.parquet", row_group_size=130)
    found = list(read_shards([tmp_path / "0.parquet"], []))
    for number in (0, 63, 64, 129, 130, 299):
        place = in_shard(str(tmp_path), found[number].record)
        assert place
        assert place.read() == pictures[number]
    paint(tmp_path / "x.png", RED)
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as archive:
        archive.add(tmp_path / "x.png", "x.png")
    (one,) = read_shards([tmp_path / "packed.tar"], [])
    assert "shard" not in one.record  # a compressed file would be read from its beginning


def test_a_picture_that_is_gone_is_not_another_one(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    for name in ("a.png", "b.png"):
        paint(tmp_path / name, RED)
    table = pyarrow.table({"path": ["a.png", "b.png"]})
    parquet.write_table(table, tmp_path / "0.parquet", row_group_size=1)
    found = list(read_shards([tmp_path / "0.parquet"], []))
    (tmp_path / "a.png").unlink()
    place = in_shard(str(tmp_path), found[0].record)
    assert place
    with pytest.raises(PictureError):
        place.read()


def test_what_a_source_says_of_shards_is_not_believed(tmp_path: Path) -> None:
    import tarfile

    paint(tmp_path / "x.png", RED)
    (tmp_path / "x.json").write_text('{"shard": {"file": "secret", "offset": 0, "bytes": 9}}')
    with tarfile.open(tmp_path / "0.tar", "w:gz") as archive:
        for name in ("x.png", "x.json"):
            archive.add(tmp_path / name, name)
    (one,) = read_shards([tmp_path / "0.tar"], [])
    assert one.record == {}
    records = Records(tmp_path, scan(tmp_path))
    assert records.of("x.png", {}) == {}


@pytest.mark.parametrize(
    "place",
    [
        {"file": "0.parquet", "row": 99}, {"file": "0.parquet", "row": "0"}, {"file": "0.parquet"},
        {"file": "none.tar", "offset": 0, "bytes": 1}, {"file": "x.png", "row": 0},
        {"file": "0.parquet", "offset": 0, "bytes": 10**12}, {"file": "none.parquet", "row": 0},
        {"file": "x.png", "offset": 2**70, "bytes": 4},
    ],
)  # fmt: skip
def test_a_place_that_is_none_is_an_error(tmp_path: Path, place: dict[str, object]) -> None:
    import pyarrow
    from pyarrow import parquet

    paint(tmp_path / "x.png", RED)
    parquet.write_table(pyarrow.table({"jpg": [b"x"]}), tmp_path / "0.parquet")
    found = in_shard(str(tmp_path), {"shard": place})
    assert found
    with pytest.raises((PictureError, OSError)):
        found.read()


@pytest.mark.parametrize(
    "shard", [None, "0.tar", {}, {"file": None}, {"file": "../x"}, {"file": "\0"}]
)
def test_a_shard_is_named_and_below_the_folder(tmp_path: Path, shard: object) -> None:
    assert in_shard(str(tmp_path), {"shard": shard}) is None


def test_vectors_of_ones_own(tmp_path: Path) -> None:
    import numpy as np

    (tmp_path / "ids.jsonl").write_text('{"id": "a", "year": 1}\n{"id": "b"}\n')
    np.save(tmp_path / "v.npy", np.array([[3, 4, 0, 0], [0, 0, 2, 0]], np.float64))
    vectors, ids, records = read_vectors(tmp_path / "v.npy", tmp_path / "ids.jsonl", 4)
    assert vectors.tolist() == [pytest.approx([0.6, 0.8, 0, 0]), [0, 0, 1, 0]]
    assert (ids, records) == (["a", "b"], [{"year": 1}, {}])
    urls = '{"id": "https://h//a.jpg", "file": "x"}\n{"id": 7, "path": "p"}\n'
    (tmp_path / "urls.jsonl").write_text(urls)
    _, ids, records = read_vectors(tmp_path / "v.npy", tmp_path / "urls.jsonl", 4)
    assert (ids, records) == (["https://h//a.jpg", "7"], [{}, {"path": "p"}])
    for nameless in ('{"id": null}', '{"id": ""}', '{"id": "\\ud800"}'):
        (tmp_path / "bad.jsonl").write_text(nameless)
        with pytest.raises(InputError, match=r"bad\.jsonl:1"):
            read_vectors(tmp_path / "v.npy", tmp_path / "bad.jsonl", 4)
    for content, sentence in (
        (np.ones((2, 5)), r"shape \(n, 4\)"),
        (np.ones((3, 4)), "3 vectors, but .* 2 rows"),
        (np.zeros((2, 4)), "vector 0 is zero"),
        (np.array([{}], object), "not a .npy file of vectors"),
    ):
        np.save(tmp_path / "w.npy", content, allow_pickle=True)
        with pytest.raises(InputError, match=sentence):
            read_vectors(tmp_path / "w.npy", tmp_path / "ids.jsonl", 4)
