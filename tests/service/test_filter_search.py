"""`filter` in POST /search, the client, MCP and the shell, over the real encoder."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from mcp import Client as Agent
from mcp_types import TextContent
from PIL import Image

from models.client import AsyncClient
from models.client.errors import ClientError
from models.client.wire import ErrorType
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.retriever.manifest import IndexOptions
from models.rewriter.protocol import Completion, Completions
from service.mcp import create_server
from tests.service.api.test_routes import problem
from tests.service.test_search import GERMAN, search
from tests.support.app import COLOURS, FakeRewriter, Start

WARM = {"warm": True}


@pytest.fixture(scope="session")
def sorted_squares(tmp_path_factory: pytest.TempPathFactory, encoder: ClipEncoder) -> Path:
    """The five squares with metadata to filter by."""
    folder = tmp_path_factory.mktemp("filtered")
    records: list[dict[str, Any]] = []
    for place, name in enumerate(COLOURS):
        Image.new("RGB", (64, 64), name).save(folder / f"{name}.png")
        warm = name in ("red", "yellow")
        taken = f"2024-0{place + 1}-15"
        records.append({"file": f"{name}.png", "name": name, "warm": warm, "exif": {"at": taken}})
    records[1]["emoji"] = records[3]["emoji"] = "\u2764\ufe0f"
    vectors = encoder.encode_images(Image.new("RGB", (64, 64), name) for name in COLOURS)
    ids = [record["file"] for record in records]
    index = ImageIndex.build(
        vectors, ids, records, encoder.fingerprint, IndexOptions("Flat", folder)
    )
    index.learn_known_scores(encoder.encode_texts([f"a {name} square" for name in COLOURS]))
    index.save(folder / "index")
    return folder / "index"


@pytest.fixture
async def client(start: Start, sorted_squares: Path) -> httpx.AsyncClient:
    return await start(index=sorted_squares)


async def names(client: httpx.AsyncClient, **body: object) -> list[str]:
    return [hit.id[:-4] for hit in (await search(client, **body)).hits]


@pytest.mark.parametrize("fusion", ["auto", "rewrite", "original", "rrf", "mean", "interleave"])
async def test_only_what_the_filter_leaves_is_found(
    client: httpx.AsyncClient, rewriter: FakeRewriter, fusion: str
) -> None:
    result = await search(client, query=GERMAN, fusion=fusion, filter=WARM, compare=True)
    assert {hit.id for hit in result.hits} == {"red.png", "yellow.png"}
    assert {hit.id for hit in result.original_hits or []} == {"red.png", "yellow.png"}
    for wanted, left in (
        ({"exif.at": {"gte": "2024-02-15", "lte": "2024-03-15"}}, {"green", "blue"}),
        ({"not": {"any": [WARM, {"name": {"prefix": "bl"}}]}}, {"green"}),
        ({"emoji": {"exists": False}, "name": {"in": ["red", "green", "none"]}}, {"red"}),
        ({"name": "none"}, set()),
        ({}, set(COLOURS)),
    ):
        assert set(await names(client, query=GERMAN, fusion=fusion, filter=wanted)) == left


async def test_the_softmax_is_over_what_the_filter_leaves(
    client: httpx.AsyncClient,
    rewriter: FakeRewriter,
    encoder: ClipEncoder,
    sorted_squares: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def complete(*_: object) -> Completions:
        written = {"a red square": 0.3, "a yellow square": 0.1}
        return Completions([Completion(text, p) for text, p in written.items()])

    monkeypatch.setattr(rewriter, "complete", complete)
    result = await search(client, query=GERMAN, n=4, filter=WARM)
    index = ImageIndex.open(sorted_squares, encoder.fingerprint)
    places = [list(index.ids).index(name) for name in ("red.png", "yellow.png")]
    cosines = encoder.encode_texts(result.rewrite.texts) @ index.vectors()[places].T
    softmax = np.exp(cosines / result.rewrite.tau)
    expected = np.array([0.75, 0.25]) @ (softmax / softmax.sum(axis=1, keepdims=True))
    found = {hit.id: hit.score for hit in result.hits}
    assert found == pytest.approx({"red.png": expected[0], "yellow.png": expected[1]}, abs=1e-4)


async def test_the_gate_decides_as_without_the_filter(
    client: httpx.AsyncClient, rewriter: FakeRewriter
) -> None:
    """A known query is kept although the best picture that is left scores low, in any order."""
    query = "a red square"
    for wanted in ({"name": "blue"}, None, {"name": "black"}, {"name": "none"}):
        rewriter.calls.clear()
        result = await search(client, query=query, filter=wanted)
        assert result.rewrite.status == "kept"
        assert result.rewrite.reason.startswith("plain English, and the encoder knows it")
        assert rewriter.calls == []
        assert len(result.hits) == {"blue": 1, "black": 1, "none": 0}.get(
            str((wanted or {}).get("name")), 5
        )


async def test_pictures_symbols_negations_and_lists_are_filtered(client: httpx.AsyncClient) -> None:
    like = await names(client, image_id="red.png", filter=WARM)
    assert like == ["yellow"]
    assert await names(client, image_id="red.png", filter={"warm": False}, k=2) != like
    assert (await names(client, query="\u2764"))[:2] == ["green", "yellow"]
    assert (await names(client, query="\u2764", filter=WARM)) == ["yellow", "red"]
    unwanted = await names(client, query="kein rotes Bild", filter=WARM)
    assert set(unwanted) == {"red", "yellow"}
    body = {"query": ["ein Bild", "a red square"], "filter": WARM}
    for result in (await client.post("/search", json=body)).json()["results"]:
        assert {hit["id"] for hit in result["hits"]} == {"red.png", "yellow.png"}


async def test_events_are_filtered(client: httpx.AsyncClient) -> None:
    body = {"query": GERMAN, "filter": WARM}
    headers = {"accept": "text/event-stream"}
    answer = await client.post("/search", json=body, headers=headers)
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line[:6] == "data: "]
    lists = [event["hits"] for event in events if "hits" in event]
    assert len(lists) == 2
    for hits in lists:
        assert {hit["id"] for hit in hits} == {"red.png", "yellow.png"}
    refused = await client.post("/search", json=body | {"filter": {"wram": 1}}, headers=headers)
    assert "did you mean 'warm'?" in problem(refused, 422, ErrorType.VALIDATION)


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"exif.att": "x"}, "filter.exif.att: no picture has the field 'exif.att'; did you mean"),
        ({"name": {"like": "x"}}, "filter.name.like: is not an operator"),
        ({"not": {"not": {"not": {"name": {"gt": 3}}}}}, "this field has no number"),
        ({"any": []}, "filter.any: must be a list of filters"),
        ({"\ud800\n": 1}, r"filter.\ud800\n: no picture has the field"),
        ("name = 'red'", "filter: "),
        ([], "filter: "),
    ],
)
async def test_a_bad_filter_is_422(client: httpx.AsyncClient, wanted: Any, sentence: str) -> None:
    content = json.dumps({"query": "a", "filter": wanted})
    answer = await client.post(
        "/search", content=content, headers={"content-type": "application/json"}
    )
    assert sentence in problem(answer, 422, ErrorType.VALIDATION)


async def test_a_deep_filter_is_refused_at_once(client: httpx.AsyncClient) -> None:
    content = b'{"query": "a", "filter": ' + b'{"not":' * 50_000 + b"{}" + b"}" * 50_001
    answer = await client.post(
        "/search", content=content, headers={"content-type": "application/json"}
    )
    assert 400 <= answer.status_code < 500


async def test_client_and_tools_pass_filters_on(client: httpx.AsyncClient) -> None:
    here = AsyncClient("http://test", attempts=1, transport=client._transport)
    found = await here.search(GERMAN, filter=WARM)
    assert {hit.id for hit in found.hits} == {"red.png", "yellow.png"}
    with pytest.raises(ClientError, match="did you mean 'warm'"):
        await here.search_many(["a"], filter={"wurm": True})
    async with Agent(create_server(here)) as agent:
        arguments = {"query": GERMAN, "filter": {"name": {"prefix": "bl"}}}
        answer = await agent.call_tool("search_images", arguments)
        assert {hit["id"] for hit in (answer.structured_content or {})["hits"]} == {
            "blue.png", "black.png",
        }  # fmt: skip
        wrong = await agent.call_tool("search_images", {"query": "a", "filter": {"nam": 1}})
        assert wrong.is_error
        assert isinstance(wrong.content[0], TextContent)
        assert "did you mean 'name'?" in wrong.content[0].text


def test_the_shell_filters(sorted_squares: Path) -> None:
    line = f"search red --llm none --index {shlex.quote(str(sorted_squares))} --json --filter"

    def run(wanted: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "grape", *shlex.split(line), wanted]
        return subprocess.run(command, capture_output=True, text=True)

    done = run('{"name": {"in": ["red", "blue"]}}')
    assert {hit["id"] for hit in json.loads(done.stdout)["hits"]} == {"red.png", "blue.png"}
    wrong = run("name = red")
    assert wrong.returncode == 2
    assert "the filter is not JSON" in wrong.stderr.splitlines()[-1]
