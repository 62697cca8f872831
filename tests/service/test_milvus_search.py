"""A server and the commands on a collection in Milvus; Milvus that goes away and comes back."""

import asyncio
import re
import shlex
import signal
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageColor

from grape import run
from models.client.wire import ErrorType
from models.retriever import milvus_write
from models.retriever.address import MilvusAddress
from models.retriever.build import Reading, build_from_folder
from models.retriever.image_index import ImageIndex
from models.retriever.open import EncoderOptions, items_at, manifest_of, open_whole
from service.runtime import served_index
from tests.service.api.test_routes import problem
from tests.support.app import COLOURS, Start
from tests.support.colours import ColourEncoder, paint
from tests.support.milvus_server import RunningMilvus, new_address

DOCS = Path(__file__).parent.parent.parent / "docs"
ASKED: list[dict[str, Any]] = [
    {"query": "a red square", "rewrite": "never"},
    {"query": "ein rotes Bild", "rewrite": "always"},
    {"query": "ein rotes Bild", "n": 4, "fusion": "mixture", "compare": True},
    {"query": "a square", "filter": {"name": {"in": ["red", "blue"]}}},
    {"query": ["a blue square", "a square without red"], "k": 2},
    {"query": "but blue", "image_id": "red.png"},
]


@pytest.fixture(scope="session")
def encoder() -> ColourEncoder:
    """Milvus is what is tested here, and not what finds which colour."""
    return ColourEncoder()


@pytest.fixture(scope="session")
def small_index(tmp_path_factory: pytest.TempPathFactory, encoder: ColourEncoder) -> Path:
    """Five squares, each of one colour."""
    folder = tmp_path_factory.mktemp("colours")
    for name in COLOURS:
        red, green, blue = ImageColor.getrgb(name)[:3]
        paint(folder / f"{name}.png", (red, green, blue))
    reading = Reading(record_of=lambda file, described: {"name": file[:-4]})
    index, _ = build_from_folder(folder, encoder, reading=reading)
    index.learn_known_scores(encoder.encode_texts([f"a {name} square" for name in COLOURS]))
    index.save(folder / "index")
    return folder / "index"


@pytest.fixture(scope="module")
def squares(milvus: RunningMilvus, small_index: Path, encoder: ColourEncoder) -> MilvusAddress:
    """The squares of the other tests, as a collection."""
    address = new_address(milvus)
    milvus_write.copy(address, ImageIndex.open(small_index, encoder.fingerprint))
    return address


def without_times(answer: dict[str, object]) -> dict[str, object]:
    """An answer, without what differs from request to request and from index to index."""
    if "results" in answer:
        results = answer["results"]
        assert isinstance(results, list)
        return {"results": [without_times(one) for one in results]}
    return {k: v for k, v in answer.items() if k not in ("timings_ms", "request_id", "index")}


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: str(asked["query"]))
async def test_an_answer_is_that_of_the_folder(
    start: Start, squares: MilvusAddress, asked: dict[str, object]
) -> None:
    folder, collection = await start(), await start(index=squares)
    theirs = (await folder.post("/search", json=asked)).json()
    ours = (await collection.post("/search", json=asked)).json()
    assert without_times(ours) == without_times(theirs)
    first = ours["results"][0] if "results" in ours else ours
    assert first["index"].startswith(f"{squares.collection}@")


async def test_pictures_info_and_bad_filters(start: Start, squares: MilvusAddress) -> None:
    client = await start(index=squares)
    assert (await client.get("/images/red.png")).headers["content-type"] == "image/webp"
    assert (await client.get("/images/nothing.png")).status_code == 404
    told = (await client.get("/info")).json()["index"]
    assert (told["count"], told["factory"]) == (len(COLOURS), "FLAT")
    bad = await client.post("/search", json={"query": "a", "filter": {"nam": "red"}})
    assert "did you mean 'name'" in problem(bad, 422, ErrorType.VALIDATION)


async def test_a_milvus_that_goes_away_is_a_503_and_comes_back(
    start: Start,
    squares: MilvusAddress,
    milvus: RunningMilvus,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(served_index, "LOOK_EVERY_S", 0.1)
    monkeypatch.setattr("models.retriever.milvus_connection.READ_S", 1.0)
    client = await start(index=squares)
    asked = {"query": "a red square", "rewrite": "never"}
    assert (await client.post("/search", json=asked)).status_code == 200
    milvus.process.send_signal(signal.SIGSTOP)
    try:
        answers = await asyncio.gather(*(client.post("/search", json=asked) for _ in range(8)))
        for answer in answers:
            assert "does not answer now" in problem(answer, 503, ErrorType.UNAVAILABLE)
            assert answer.headers["retry-after"]
        for route in ("/images/red.png",):
            problem(await client.get(route), 503, ErrorType.UNAVAILABLE)
        events = await client.post("/search", json=asked, headers={"accept": "text/event-stream"})
        assert "does not answer now" in events.text
        for _ in range(100):
            ready = await client.get("/readyz")
            if not ready.is_success:
                break
            await asyncio.sleep(0.1)
        told = ready.json()["index"]
        assert not told["ready"]
        assert "does not answer: is it running" in told["reason"]
        assert (await client.get("/livez")).is_success
    finally:
        milvus.process.send_signal(signal.SIGCONT)
    for _ in range(200):
        if (await client.get("/readyz")).is_success:
            break
        await asyncio.sleep(0.1)
    assert (await client.post("/search", json=asked)).status_code == 200


async def test_a_new_build_is_served_without_a_failed_request(
    start: Start,
    small_index: Path,
    encoder: ColourEncoder,
    milvus: RunningMilvus,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(served_index, "LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(milvus_write, "GRACE_S", 2.0)
    address = new_address(milvus)
    index = ImageIndex.open(small_index, encoder.fingerprint)
    milvus_write.copy(address, index)
    client = await start(index=address, llm="none")
    before = (await client.post("/search", json={"query": "a square"})).json()["index"]
    fewer = ImageIndex.build(
        index.vectors()[:2], list(index.ids)[:2], list(index.metadata)[:2], encoder.fingerprint
    )
    building = asyncio.create_task(asyncio.to_thread(milvus_write.copy, address, fewer))
    answers: list[httpx.Response] = []
    while not building.done() or len(answers) < 20:
        answers.append(await client.post("/search", json={"query": "a square"}))
        await asyncio.sleep(0.02)
    await building
    assert {answer.status_code for answer in answers} == {200}
    after = answers[-1].json()
    assert after["index"] != before
    assert len(after["hits"]) == 2
    counts = {answer.json()["index"]: len(answer.json()["hits"]) for answer in answers}
    assert set(counts.values()) == {len(COLOURS), 2}


def commands() -> list[list[str]]:
    """Those of docs/scale.md."""
    (block,) = re.findall(
        r"<!-- milvus -->\n```bash\n(.*?)```", (DOCS / "scale.md").read_text(), re.DOTALL
    )
    return [shlex.split(line)[1:] for line in block.splitlines()]


def test_the_commands_of_the_page_work(
    milvus: RunningMilvus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "PICTURES").mkdir()
    for name in COLOURS:
        Image.new("RGB", (32, 32), name).save(tmp_path / "PICTURES" / f"{name}.png")
    (tmp_path / "PICTURES" / "red.txt").write_text("a red square")
    address = new_address(milvus)
    for number, line in enumerate(commands()):
        if number == 1:
            (tmp_path / "PICTURES" / "blue.png").unlink()
        if number == 2:
            Image.new("RGB", (32, 32), "white").save(tmp_path / "PICTURES" / "new.png")
        given = [part.replace("milvus://HOST:PORT/pictures", address) for part in line]
        assert run(given) == 0, capsys.readouterr().err
    told = capsys.readouterr().out
    assert "0 added, 0 changed, 0 renamed, 1 removed; 4 pictures." in told
    assert "1 added, 0 changed, 0 renamed, 0 removed; 5 pictures." in told
    assert told.count("\nok: ") >= 3
    assert "WRONG" not in told
    assert '"consistency": "bounded"' in told
    assert told.splitlines()[-1].count("\t") or "red.png" in told
    assert manifest_of(address).known_from == "captions"
    assert len(list(items_at(address).located())) == 4
    encoder, index = open_whole(address, EncoderOptions())
    assert np.allclose(np.linalg.norm(index.vectors(), axis=1), 1)
    assert encoder.fingerprint.same_vectors(index.manifest.encoder)


@pytest.mark.parametrize(
    "line",
    [
        "index info {}", "index check {}", "index sync . {}", "index remove {} x",
        "search dog --rewrite never --index {}", "doctor --index {}",
    ],
)  # fmt: skip
def test_no_milvus_is_one_sentence(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("models.retriever.milvus_connection.READ_S", 0.5)
    assert run(line.format("milvus://127.0.0.1:9/pictures").split()) == 1
    told = capsys.readouterr()
    assert told.err.count("\n") == 1, told.err
    assert "does not answer: is it running, and is the address right?" in told.err


def test_a_collection_that_is_not_there_is_one_sentence(
    milvus: RunningMilvus, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["index", "info", new_address(milvus)]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "There is no collection" in told
