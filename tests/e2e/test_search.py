"""Searches of the demo over HTTP, with everything real."""

import concurrent.futures
import functools
import json
import subprocess
import time
from typing import Any

import pytest

from tests.support.grape_server import GRAPE, Server


@pytest.mark.parametrize(
    ("query", "picture"),
    [
        ("Geschenk", "wrapped gift"),
        ("caballo", "horse"),
        ("ギター", "guitar"),
        ("велосипед", "bicycle"),
        ("大象", "elephant"),
        ("red apple", "red apple"),
    ],
)
def test_queries_in_several_languages(server: Server, query: str, picture: str) -> None:
    answer = server.search(query, k=10)
    assert picture in [hit["metadata"]["name"] for hit in answer["hits"]]  # type: ignore[attr-defined]
    assert answer["degraded"] is False
    status = "kept" if query == "red apple" else "rewritten"
    assert answer["rewrite"]["status"] == status  # type: ignore[index]


ONCE = "A big grey elephant with large ears is standing by the water."
EIGHT = (
    "An elephant walks slowly through the tall dry grass. It has a long trunk and two white tusks. "
    "Its skin is grey and wrinkled. A small bird sits on its back. The sun is going down behind "
    "the hills. There are a few trees in the distance. The animal looks calm and strong. It seems "
    "to be looking for water."
)


@pytest.mark.parametrize(
    "text", [ONCE, f"{ONCE} " * 8, EIGHT], ids=["one sentence", "eight times", "eight sentences"]
)
def test_a_description_that_runs_on_keeps_its_subject(server: Server, text: str) -> None:
    found: Any = server.search(text, k=10)
    assert found["rewrite"]["status"] == "rewritten"
    assert "1F418" in [hit["id"] for hit in found["hits"]]


def test_the_same_request_gives_the_same_answer(server: Server) -> None:
    answers = [server.search("un coche rojo") for _ in range(3)]
    assert len({json.dumps(answer["hits"]) for answer in answers}) == 1
    sampled = [
        server.client.post(
            "/rewrite", json={"query": "un coche rojo", "n": 4, "temperature": 1}
        ).json()["results"]
        for _ in range(2)
    ]
    assert sampled[0] == sampled[1]


def test_32_clients_at_once_get_their_own_answers(server: Server) -> None:
    colours = ("rotes", "blaues", "grünes", "altes")
    things = ("Haus", "Auto", "Buch", "Pferd", "Boot", "Herz", "Brot", "Schwein")
    queries = [f"{colour} {thing}" for colour in colours for thing in things]
    # With `n: auto` a query has fewer rewrites while others wait.
    search = functools.partial(server.search, n=1)
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        together = list(pool.map(search, queries))
    assert [answer["query"] for answer in together] == queries
    assert not any(answer["degraded"] for answer in together)
    rewrites = [answer["rewrite"]["texts"] for answer in together]  # type: ignore[index]
    for query, texts in list(zip(queries, rewrites, strict=True))[::8]:
        assert search(query)["rewrite"]["texts"] == texts  # type: ignore[index]
    assert len({answer["request_id"] for answer in together}) == 32


def test_a_client_that_leaves_stops_its_rewrites(server: Server) -> None:
    import httpx

    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{server.url}/rewrite",
            json={
                "query": [f"une longue phrase {n}" for n in range(15)],
                "n": 16,
                "temperature": 1,
            },
            timeout=1,
        )
    # Written to their end, the 240 answers would keep the engine busy for a quarter of a minute; it
    # drops them after the step that it is in.
    started = time.monotonic()
    while server.search("caballo")["degraded"]:
        assert time.monotonic() - started < 10
    assert time.monotonic() - started < 10


def test_the_shell_searches_through_the_server(server: Server) -> None:
    shown = subprocess.run(
        [GRAPE, "search", "caballo", "-k", "3", "--url", server.url],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = shown.stdout.splitlines()
    assert lines[0].split() == ["rank", "score", "id", "file", "found", "by"]
    assert len(lines) == 4
    assert "horse" in shown.stdout
    rewritten = subprocess.run(
        [GRAPE, "rewrite", "--url", server.url], input="caballo\nギター\n",
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert len(rewritten.stdout.splitlines()) == 2
    as_json = subprocess.run(
        [GRAPE, "rewrite", "caballo", "--json", "--url", server.url],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(as_json.stdout)["status"] == "rewritten"
