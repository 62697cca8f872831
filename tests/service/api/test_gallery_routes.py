"""GET /images and GET /facets over a small real index."""

import asyncio
import json
from pathlib import Path

import httpx
import numpy as np
import pytest

from models.client.wire import ErrorType, Facets, PictureList
from models.retriever import facets
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.retriever.item_store import ItemStore
from tests.service.api.test_routes import problem
from tests.support.app import COLOURS, Start

COUNT = 30
PLACES = ("Oslo", "Bergen", "北京")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, encoder: ClipEncoder) -> Path:
    """Thirty vectors without pictures, in three places."""
    folder = tmp_path_factory.mktemp("places")
    vectors = np.random.default_rng(0).normal(size=(COUNT, encoder.fingerprint.dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    records = [{"place": PLACES[n % 3], "n": n} for n in range(COUNT)]
    ids = [f"a/{n:02}.png" for n in range(COUNT)]
    unit = vectors.astype(np.float32)
    ImageIndex.build(unit, ids, records, encoder.fingerprint).save(folder)
    return folder


@pytest.fixture
async def client(start: Start, places: Path) -> httpx.AsyncClient:
    return await start(index=places)


async def listed(client: httpx.AsyncClient, **params: object) -> PictureList:
    answer = await client.get("/images", params={k: str(v) for k, v in params.items()})
    assert answer.status_code == 200, answer.text
    return PictureList.model_validate(answer.json())


async def test_pages_together_are_the_index(client: httpx.AsyncClient) -> None:
    ids: list[str] = []
    for offset in range(0, COUNT, 7):
        page = await listed(client, offset=offset, limit=7)
        assert (page.total, page.offset) == (COUNT, offset)
        ids += [picture.id for picture in page.pictures]
    assert ids == [f"a/{n:02}.png" for n in range(COUNT)]
    first = (await listed(client)).pictures[0]
    assert (first.url, first.metadata) == (None, {"place": "Oslo", "n": 0})
    beyond = await listed(client, offset=10**15)
    assert (beyond.pictures, beyond.total) == ([], COUNT)


@pytest.mark.parametrize("wanted", [None, '{"place": "Oslo"}', '{"n": 3}', '{"n": {"lt": 2}}'])
async def test_mixed_pages_hold_every_picture_once_and_are_samples(
    client: httpx.AsyncClient, wanted: str | None
) -> None:
    only = {"filter": wanted} if wanted else {}
    expected = {picture.id for picture in (await listed(client, **only)).pictures}
    mixed = [
        picture.id
        for offset in range(0, COUNT, 4)
        for picture in (
            await listed(client, order="mixed", offset=offset, limit=4, **only)
        ).pictures
    ]
    assert len(mixed) == len(expected)
    assert set(mixed) == expected
    if not wanted:
        first = sorted(int(name[2:4]) for name in mixed[:4])
        assert max(b - a for a, b in zip([-1, *first], [*first, COUNT], strict=True)) < COUNT / 2


async def test_an_empty_selection_has_no_pages(client: httpx.AsyncClient) -> None:
    assert (await listed(client, order="mixed", filter='{"place": "Rome"}')).pictures == []
    problem(await client.get("/images?order=best"), 422, ErrorType.VALIDATION)


async def test_pictures_have_the_addresses_of_hits(start: Start) -> None:
    client = await start()
    urls = {picture.id: picture.url for picture in (await listed(client)).pictures}
    assert urls == {f"{name}.png": f"/images/{name}.png" for name in COLOURS}
    found = await client.post("/search", json={"query": "red", "rewrite": "never"})
    assert {hit["id"]: hit["url"] for hit in found.json()["hits"]} == urls


async def test_a_filter_leaves_its_pictures_in_the_same_order(client: httpx.AsyncClient) -> None:
    wanted = json.dumps({"place": "北京", "n": {"gte": 10}})
    page = await listed(client, filter=wanted, offset=1, limit=3)
    assert [picture.metadata["n"] for picture in page.pictures] == [14, 17, 20]
    assert page.total == 7
    assert (await listed(client, filter='{"place": "Rome"}')).total == 0


@pytest.mark.parametrize(
    "params",
    [
        {"offset": -1}, {"offset": 2**60}, {"offset": "x"}, {"limit": 0}, {"limit": 501},
        {"filter": ""}, {"filter": "{"}, {"filter": "[]"}, {"filter": '{"plaice": "Oslo"}'},
        {"filter": '{"place": {"like": "O"}}'}, {"filter": '{"place": 1}'},
    ],
)  # fmt: skip
async def test_bad_parameters_are_told(client: httpx.AsyncClient, params: dict[str, str]) -> None:
    problem(await client.get("/images", params=params), 422, ErrorType.VALIDATION)


async def test_facets_say_what_there_is(client: httpx.AsyncClient) -> None:
    found = Facets.model_validate((await client.get("/facets")).json())
    numbers, place = found.facets
    assert (numbers.kind, numbers.low, numbers.high, numbers.values) == ("number", 0, 29, [])
    assert {value.value: value.count for value in place.values} == dict.fromkeys(PLACES, 10)
    assert (await client.get("/facets")).json() == found.model_dump()


async def test_facets_are_read_once_and_again_after_a_failure(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = facets.facets_of, 0

    def counted(store: ItemStore) -> list[facets.Facet]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("the disk is gone")
        return real(store)

    monkeypatch.setattr("models.retriever.image_index.facets_of", counted)
    problem(await client.get("/facets"), 500, ErrorType.INTERNAL)
    answers = await asyncio.gather(*[client.get("/facets") for _ in range(5)])
    assert {answer.status_code for answer in answers} == {200}
    assert calls == 2


async def test_both_are_refused_while_loading_and_without_a_key(start: Start) -> None:
    client = await start(api_keys="a-key-of-these-tests-0123456789")
    loading = await start(wait=False)
    for path in ("/images", "/facets"):
        problem(await client.get(path), 401, ErrorType.UNAUTHORIZED)
        problem(await loading.get(path), 503, ErrorType.UNAVAILABLE)
