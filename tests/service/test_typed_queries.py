"""Queries as people type them: one form for gate, cache and model, and honest answers."""

import httpx

from tests.support.app import FakeRewriter


async def search(client: httpx.AsyncClient, query: str, **body: object) -> dict[str, object]:
    response = await client.post("/search", json={"query": query, **body})
    assert response.status_code == 200, response.text
    answer: dict[str, object] = response.json()
    return answer


async def test_one_form_is_searched_and_what_was_typed_is_echoed(
    client: httpx.AsyncClient, rewriter: FakeRewriter
) -> None:
    rewriter.answers["ein rotes bild"] = " a red square"
    rewriter.calls.clear()
    plain = await search(client, "ein rotes bild")
    for typed in ("EIN ROTES BILD", "ｅｉｎ ｒｏｔｅｓ ｂｉｌｄ", "ein\u200b ro\u00adtes\nbild"):
        found = await search(client, typed)
        assert found["query"] == typed
        assert (found["rewrite"], found["hits"]) == (plain["rewrite"], plain["hits"])
    assert [query for query, _ in rewriter.calls] == ["ein rotes bild"], "the rewrite was kept"
    answer = await client.post("/rewrite", json={"query": "EIN ROTES BILD"})
    (result,) = answer.json()["results"]
    assert (result["query"], result["rewrites"][0]["text"]) == ("EIN ROTES BILD", "a red square")
