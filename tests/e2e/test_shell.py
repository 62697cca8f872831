"""Indexing and searching a folder from the shell, with the real encoder."""

import json
from pathlib import Path

from PIL import Image

from tests.service.test_commands import grape


def test_index_a_folder_and_search_it(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    (pictures / "sub dir").mkdir(parents=True)
    (pictures / ".hidden").mkdir()
    Image.new("RGB", (40, 40), "red").save(pictures / "sub dir" / "réd.PNG")
    Image.new("CMYK", (40, 40)).save(pictures / "print.jpg")
    Image.new("RGB", (40, 40)).save(pictures / "x.webp")
    Image.new("P", (40, 40)).save(pictures / "x.gif")
    Image.new("RGB", (9, 9)).save(pictures / ".hidden" / "x.png")
    (pictures / "drawing.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><circle r="5"/></svg>'
    )
    (pictures / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (pictures / "empty.png").touch()
    (pictures / "notes.txt").write_text("no picture")
    (pictures / "link.png").symlink_to("/no/such/file.png")
    index = tmp_path / "index"

    known = tmp_path / "known.txt"
    missing = grape("index", "build", pictures, "--out", index, "--known-queries", known)
    assert missing.returncode == 2
    assert "known.txt cannot be read" in missing.stderr
    known.write_text("a red square\n\na black square\n")
    built = grape("index", "build", pictures, "--out", index, "--known-queries", known)
    assert built.returncode == 0, built.stderr
    assert built.stdout == f"{index}: 5 pictures indexed, 2 skipped.\n"
    assert "skipped broken.jpg: " in built.stderr
    assert "skipped empty.png: " in built.stderr
    assert "Indexing: " in built.stderr

    manifest = json.loads(grape("index", "info", index).stdout)
    assert manifest["count"] == 5
    scores = manifest["known_scores"]
    assert len(scores) == 101
    assert scores == sorted(scores)
    assert -1 < scores[0] < scores[-1] < 1
    found = grape("search", "red square", "-k", "9", "--index", index, "--rewrite", "never")
    assert found.returncode == 0, found.stderr
    assert len(found.stdout.splitlines()) == 6
    assert "sub dir/réd.PNG" in found.stdout
    as_json = grape("search", "red", "--index", index, "--llm", "none", "--json")
    assert json.loads(as_json.stdout)["hits"][0]["metadata"]["file"]

    wrong = grape("search", "x", "--index", index, "--encoder", "ViT-B-32", "--rewrite", "never")
    assert wrong.returncode == 2
    assert "needs --pretrained" in wrong.stderr


def test_a_file_in_the_place_of_the_index(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (9, 9)).save(pictures / "x.png")
    (tmp_path / "file").write_text("precious")
    done = grape("index", "build", pictures, "--out", tmp_path / "file")
    assert done.returncode == 1
    assert (tmp_path / "file").read_text() == "precious"
