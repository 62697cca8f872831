"""Searches that start from a picture, and long ones, with everything real."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from models.retriever.image_index import ImageIndex
from tests.e2e.test_docs import ROOT, run, shell_lines
from tests.support.grape_server import GRAPE, Server


def ids_by_name(index: ImageIndex) -> dict[str, str]:
    return {item["name"]: picture for item, picture in zip(index.metadata, index.ids, strict=True)}


def names(answer: dict[str, object]) -> list[str]:
    return [hit["metadata"]["name"] for hit in answer["hits"]]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("start", "change", "wanted"),
    [
        ("red heart", "aber in Blau", "blue heart"),
        ("keycap 9", "with the number 3", "keycap 3"),
        ("keycap 4", "con el número 7", "keycap 7"),
        ("woman astronaut", "surfing instead", "woman surfing"),
        ("red heart", "this one but blue", "blue heart"),
        ("grinning cat", "the same animal, crying", "crying cat"),
        ("crying cat", "the same animal, smiling", "grinning cat"),
        ("cowboy hat face", "without the hat", "grinning face"),
        ("person beard", "ohne Bart", "person"),
    ],
)
def test_a_picture_and_what_is_to_be_different(
    server: Server, demo_index: ImageIndex, start: str, change: str, wanted: str
) -> None:
    body = {"image_id": ids_by_name(demo_index)[start], "query": change, "k": 10, "compare": True}
    answer = server.client.post("/search", json=body).json()
    assert answer["rewrite"]["status"] == "rewritten"
    assert answer["rewrite"]["reason"] == f"a picture to be changed: {start}"
    assert wanted in names(answer)
    assert start not in names(answer)


def test_an_uploaded_drawing_is_the_one_of_the_gallery(
    server: Server, demo_index: ImageIndex
) -> None:
    picture = ids_by_name(demo_index)["guitar"]
    webp = server.client.get(f"/images/{picture}?size=512").content
    body = {"image": base64.b64encode(webp).decode(), "k": 5}
    answer = server.client.post("/search", json=body | {"with_reference": True}).json()
    assert names(answer)[0] == "guitar"
    assert answer["rewrite"]["status"] == "kept"
    svg = demo_index.picture_file(demo_index.position(picture) or 0)
    assert svg
    body = {"image": "data:image/svg+xml;base64," + base64.b64encode(svg.read_bytes()).decode()}
    assert "guitar" not in names(server.client.post("/search", json=body).json())


def test_from_the_shell(server: Server, demo_index: ImageIndex, tmp_path: Path) -> None:
    picture = ids_by_name(demo_index)["red heart"]
    file = tmp_path / "mine.webp"
    file.write_bytes(server.client.get(f"/images/{picture}").content)
    arguments = [
        str(GRAPE),
        "search",
        "--image",
        str(file),
        "--url",
        server.url,
        "--json",
        "-k",
        "5",
    ]
    alone = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    assert len(json.loads(alone)["hits"]) == 5
    changed = subprocess.run(
        [*arguments, "aber in Blau"], capture_output=True, text=True, check=True
    ).stdout
    assert json.loads(changed)["rewrite"]["status"] == "rewritten"
    for wrong, told in (
        (["search", "--url", server.url], "there is no query"),
        (["search", "--image", tmp_path / "none.png"], "none.png cannot be read"),
    ):
        failed = subprocess.run(
            [GRAPE, *wrong], capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        assert failed.returncode == 2
        assert told in failed.stderr
        assert failed.stderr.count("\n") == 1


def test_the_commands_of_the_page(server: Server, demo_index: ImageIndex, tmp_path: Path) -> None:
    curl, shell = shell_lines((ROOT / "docs/composed.md").read_text())
    assert names(json.loads(run(curl, server, tmp_path)))
    file = tmp_path / "mine.webp"
    file.write_bytes(server.client.get("/images/2764").content)
    assert "blue heart" in run(shell.replace("PICTURE", str(file)), server, tmp_path)


def test_two_thousand_words_are_condensed(server: Server) -> None:
    """Into what the encoder reads to its end, each part of them."""
    statuses = set()
    for sentence in (
        "Ich suche Bild {}, das ich gestern gesehen habe. ",
        "我在找昨天看到的第{}张图片，但是不记得它叫什么名字了。",
        "Я ищу картинку {}, которую видел вчера вечером. ",
    ):
        # Each is said once: a sentence that is repeated is searched once.
        query = "".join(map(sentence.format, range(700)))[:15_500]
        rewrite: dict[str, Any] = server.search(query, rewrite="always")["rewrite"]  # type: ignore[assignment]
        statuses.add(rewrite["status"])
        if rewrite["status"] == "rewritten":
            assert rewrite["truncated"] is False
            assert 1 < rewrite["parts"] <= 16
        else:  # cores that are busy with something else may take longer than the deadline
            assert rewrite["reason"].endswith(", but no rewrite within 10 s")
        never: dict[str, Any] = server.search(query, rewrite="never")
        assert never["rewrite"]["truncated"] is True
        assert never["rewrite"]["parts"] > 16
        assert never["hits"]
    assert "rewritten" in statuses


def test_many_long_texts_sampled_at_once_leave_the_engine_alive(server: Server) -> None:
    """More prompt tokens than vLLM computes in one go, each request with a seed of its own."""
    engine = server.engine().pid
    queries = [
        f"{number} " + "".join(map("I saw it in house {} near the river. ".format, range(35)))
        for number in range(32)
    ]
    body = {"query": queries, "task": "long", "n": 3, "temperature": 1}
    results = server.client.post("/rewrite", json=body, timeout=120).json()["results"]
    assert len(results) == 32
    # What takes longer than the deadline is a fallback; what ends the engine is a fault.
    assert {result["reason"] for result in results} <= {
        "requested",
        "requested, but no rewrite within 10 s",
    }
    assert server.client.get("/readyz").is_success
    assert server.engine().pid == engine
