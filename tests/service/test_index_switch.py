"""A new generation of the index under load, a broken one, and pictures that moved."""

import asyncio
import shutil
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from models.client.wire import ErrorType, Readiness
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.retriever.index import Index
from models.retriever.manifest import MANIFEST, IndexOptions, read_manifest
from service.runtime import served_index
from tests.service.api.test_routes import problem
from tests.support.app import COLOURS, Start

CLIENTS = 32
SWITCHES = 20


def write(folder: Path, encoder: ClipEncoder, generation: int) -> str:
    """An index whose every record, id and vector order tell its generation."""
    order = np.roll(np.arange(len(COLOURS)), generation).tolist()
    names = [COLOURS[place] for place in order]
    pictures = folder.parent / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    images = [Image.new("RGB", (64, 64), name) for name in names]
    for name, image in zip(names, images, strict=True):
        image.save(pictures / f"{name}.png")
    ImageIndex.build(
        encoder.encode_images(images),
        [f"{name}-{generation}" for name in names],
        [{"file": f"{n}.png", "name": n, "generation": generation} for n in names],
        encoder.fingerprint,
        IndexOptions(pictures=pictures),
    ).save(folder)
    return f"{folder.name}@{read_manifest(folder).generation}"


async def test_no_request_fails_and_no_answer_is_mixed(
    start: Start, encoder: ClipEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_index, "LOOK_EVERY_S", 1000)
    folder = tmp_path / "index"
    generations = {write(folder, encoder, 0): 0}
    index = ImageIndex.open(folder, encoder.fingerprint)
    cosines = encoder.encode_texts(COLOURS) @ index.vectors().T
    first = {query: COLOURS[place] for query, place in zip(COLOURS, cosines.argmax(1), strict=True)}
    client = await start(index=folder, llm="none")
    ended = asyncio.Event()
    seen: set[str] = set()

    async def ask(number: int) -> None:
        query = COLOURS[number % len(COLOURS)]
        while not ended.is_set():
            body = {"query": [query, "a square"], "filter": {"name": {"exists": True}}, "k": 5}
            answer = await client.post("/search", json=body)
            assert answer.status_code == 200, answer.text
            results = answer.json()["results"]
            assert len({result["index"] for result in results}) == 1
            generation = generations[results[0]["index"]]
            for result in results:
                assert {hit["metadata"]["generation"] for hit in result["hits"]} == {generation}
                assert all(hit["id"] == f"{hit['metadata']['name']}-{generation}"
                           for hit in result["hits"])  # fmt: skip
            assert results[0]["hits"][0]["metadata"]["name"] == first[query]
            seen.add(results[0]["index"])

    asking = [asyncio.create_task(ask(number)) for number in range(CLIENTS)]
    for generation in range(1, SWITCHES + 1):
        name = await asyncio.to_thread(write, folder, encoder, generation)
        generations[name] = generation
        told = (await client.post("/admin/index")).json()
        assert (told["index"], told["switched"]) == (name, True)
        while name not in seen:
            for task in asking:
                assert not task.done(), task.result()
            await asyncio.sleep(0.005)
    ended.set()
    await asyncio.gather(*asking)
    assert len(seen) == SWITCHES + 1


async def test_a_new_manifest_is_seen_without_being_told(
    start: Start, encoder: ClipEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_index, "LOOK_EVERY_S", 0.02)
    first = write(tmp_path / "index", encoder, 0)
    client = await start(index=tmp_path / "index", llm="none")
    second = write(tmp_path / "index", encoder, 1)
    while (index := (await client.post("/search", json={"query": "red"})).json()["index"]) == first:
        await asyncio.sleep(0.01)
    assert index == second


async def test_a_broken_generation_changes_nothing(
    start: Start, encoder: ClipEncoder, tmp_path: Path
) -> None:
    name = write(tmp_path / "index", encoder, 0)
    client = await start(index=tmp_path / "index", llm="none")
    told = (await client.post("/admin/index")).json()
    assert told == {"index": name, "pictures": len(COLOURS), "switched": False}
    (tmp_path / "index" / MANIFEST).write_text("{}")
    assert "build" in problem(await client.post("/admin/index"), 409, ErrorType.CONFLICT)
    result = (await client.post("/search", json={"query": "red"})).json()
    assert result["index"] == name
    assert result["hits"][0]["id"] == "red-0"


async def test_pictures_that_moved_are_told_and_found(
    start: Start, encoder: ClipEncoder, tmp_path: Path
) -> None:
    write(tmp_path / "index", encoder, 0)
    shutil.move(tmp_path / "pictures", tmp_path / "moved")
    client = await start(wait=False, index=tmp_path / "index", llm="none")
    answer = await _loaded(client)
    assert answer.status_code == 503
    readiness = Readiness.model_validate(answer.json())
    assert readiness.index.ready
    assert not readiness.pictures.ready
    assert "--pictures" in readiness.pictures.reason
    there = await start(index=tmp_path / "index", llm="none", pictures=tmp_path / "moved")
    assert (await there.get("/images/red-0")).status_code == 200


async def test_a_server_follows_pictures_that_sync_found_elsewhere(
    start: Start, encoder: ClipEncoder, tmp_path: Path
) -> None:
    write(tmp_path / "index", encoder, 0)
    client = await start(index=tmp_path / "index", llm="none")
    shutil.move(tmp_path / "pictures", tmp_path / "moved")
    assert (await client.get("/images/red-0")).status_code == 404
    index = ImageIndex.open(tmp_path / "index", encoder.fingerprint)
    index.manifest = index.manifest.model_copy(update={"pictures": str(tmp_path / "moved")})
    index.save(tmp_path / "index")
    assert (await client.post("/admin/index")).json()["switched"] is True
    assert (await client.get("/images/red-0")).status_code == 200


async def test_a_generation_that_could_not_be_opened_is_tried_again(
    start: Start, encoder: ClipEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_index, "LOOK_EVERY_S", 0.02)
    real, failures = served_index.ServedIndex._open, [MemoryError(), OSError(24, "no more files")]

    def sometimes(self: served_index.ServedIndex) -> Index:
        if failures:
            raise failures.pop()
        return real(self)

    monkeypatch.setattr(served_index.ServedIndex, "_open", sometimes)
    write(tmp_path / "index", encoder, 0)
    client = await start(index=tmp_path / "index", llm="none")
    second = write(tmp_path / "index", encoder, 1)
    while (await client.post("/search", json={"query": "red"})).json()["index"] != second:
        await asyncio.sleep(0.01)
    assert not failures


async def _loaded(client: httpx.AsyncClient) -> httpx.Response:
    while True:
        answer = await client.get("/readyz")
        if answer.json()["index"]["ready"]:
            return answer
        await asyncio.sleep(0.01)
