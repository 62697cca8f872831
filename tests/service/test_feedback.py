"""POST /feedback, and the files that it appends to."""

import asyncio
import errno
import json
import os
from pathlib import Path

import httpx
import pytest

from models.client import AsyncClient, ClientError
from models.client.marks import Mark, read_marks
from models.client.wire import ErrorType
from models.common.errors import InputError
from service import feedback
from service.feedback import Feedback
from tests.service.api.test_routes import problem
from tests.support.app import Start

RED = {"query": "ein rotes Bild", "id": "red.png", "relevant": True}


@pytest.fixture
async def client(start: Start, tmp_path: Path) -> httpx.AsyncClient:
    return await start(feedback=tmp_path / "marks")


def kept(tmp_path: Path) -> list[Mark | None]:
    return list(read_marks(tmp_path / "marks"))


async def test_a_mark_is_on_the_disk_when_it_is_answered(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    answer = await client.post("/feedback", json=RED)
    assert answer.status_code == 202
    (line,) = (tmp_path / "marks" / "marks-000001.jsonl").read_text().splitlines()
    found = json.loads(line)
    assert {"query": "ein rotes Bild", "id": "red.png", "relevant": True}.items() <= found.items()
    assert found["index"].startswith("index@")
    assert (await client.get("/info")).json()["feedback"] is True


async def test_the_request_of_a_search_stands_for_its_query(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    search = (await client.post("/search", json={"query": "Ein rotes Bild"})).json()
    told = {"request_id": search["request_id"], "id": "red.png", "relevant": False}
    assert (await client.post("/feedback", json=told)).status_code == 202
    (mark,) = kept(tmp_path)
    assert mark
    assert mark.query == "Ein rotes Bild"
    assert mark.request_id == search["request_id"]
    unknown = await client.post("/feedback", json={**told, "request_id": "0"})
    problem(unknown, 404, ErrorType.NOT_FOUND)


async def test_the_client_tells_it(client: httpx.AsyncClient, tmp_path: Path) -> None:
    async with AsyncClient("http://test", transport=client._transport) as grape:
        await grape.feedback("red.png", True, query="rot")
        with pytest.raises(ClientError, match="there is no picture"):
            await grape.feedback("none.png", True, query="rot")
    assert [mark and mark.query for mark in kept(tmp_path)] == ["rot"]


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"id": "red.png", "relevant": True}, 422, ErrorType.VALIDATION),
        ({**RED, "query": " "}, 422, ErrorType.VALIDATION),
        ({**RED, "query": "a\0b"}, 422, ErrorType.VALIDATION),
        ({**RED, "query": "x" * 40_000}, 413, ErrorType.TOO_LARGE),
        ({**RED, "id": "none.png"}, 404, ErrorType.NOT_FOUND),
        ({**RED, "id": "x" * 2000}, 422, ErrorType.VALIDATION),
        ({**RED, "id": "\ud800"}, 422, ErrorType.VALIDATION),
        ({**RED, "relevant": "perhaps"}, 422, ErrorType.VALIDATION),
        ({**RED, "kind": "liked"}, 422, ErrorType.VALIDATION),
        ({**RED, "user": "me"}, 422, ErrorType.VALIDATION),
        ([], 422, ErrorType.VALIDATION),
    ],
)
async def test_bad_feedback_is_refused_and_not_kept(
    client: httpx.AsyncClient, tmp_path: Path, body: object, status: int, kind: ErrorType
) -> None:
    content = json.dumps(body)
    headers = {"Content-Type": "application/json"}
    problem(await client.post("/feedback", content=content, headers=headers), status, kind)
    assert kept(tmp_path) == []


async def test_without_a_folder_there_is_no_route(start: Start) -> None:
    client = await start()
    assert (await client.post("/feedback", json=RED)).status_code == 404
    assert (await client.get("/info")).json()["feedback"] is False


async def test_too_much_at_a_time_is_slowed_down(
    client: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "BURST", 3.0)
    monkeypatch.setattr(feedback, "PER_SECOND", 0.001)
    answers = await asyncio.gather(*(client.post("/feedback", json=RED) for _ in range(8)))
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [202] * 3 + [429] * 5
    assert next(a for a in answers if a.status_code == 429).headers["Retry-After"] == "1"
    assert len(kept(tmp_path)) == 3


async def test_a_full_disk_is_told_and_the_next_line_is_whole(
    client: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await client.post("/feedback", json=RED)).status_code == 202
    with open(tmp_path / "marks" / "marks-000001.jsonl", "ab") as file:
        file.write(b'{"time": "2026-')  # what a crash leaves

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        told = await client.post("/feedback", json=RED)
    problem(told, 503, ErrorType.UNAVAILABLE)
    assert "No space left on device" in told.json()["error"]
    assert (await client.post("/feedback", json=RED)).status_code == 202
    marks = kept(tmp_path)
    assert marks[1] is None
    assert marks[-1]
    assert marks[-1].id == "red.png"


async def test_files_are_rotated_and_the_folder_is_bounded(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "ROTATED_AT", 400)
    monkeypatch.setattr(feedback, "MOST", 1500)
    client = await start(feedback=tmp_path / "marks")
    codes = [(await client.post("/feedback", json=RED)).status_code for _ in range(20)]
    assert codes == sorted(codes)
    assert set(codes) == {202, 503}
    files = sorted((tmp_path / "marks").iterdir())
    assert len(files) > 2
    assert sum(path.stat().st_size for path in files) <= 1500
    assert len(kept(tmp_path)) == codes.count(202)
    for path in files:
        path.unlink()
    assert (await client.post("/feedback", json=RED)).status_code == 202


async def test_other_files_in_the_folder_are_left_alone(start: Start, tmp_path: Path) -> None:
    (tmp_path / "marks").mkdir()
    (tmp_path / "marks" / "marks-old.jsonl").write_text("{}\n")
    client = await start(feedback=tmp_path / "marks")
    assert (await client.post("/feedback", json=RED)).status_code == 202
    assert len(kept(tmp_path)) == 1


def test_a_folder_that_cannot_be_used_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--feedback .*file cannot be used"):
        Feedback(tmp_path / "file")
