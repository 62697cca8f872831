"""Adapters change while the service runs: no request is lost, mixed up or served stale."""

import asyncio
import json

import pytest

from models.rewriter.adapter import GRAPE_JSON, open_adapter
from models.rewriter.tasks import SERVED_TASKS, TASKS
from models.search.gate import Gate
from models.search.mixture import MIXTURE_JSON, Mixture
from service.monitoring.metrics import Metrics
from service.rewriting.cache import RewriteCache
from service.rewriting.host import RewriterHost
from service.rewriting.routing import AdapterSlot, with_slot
from tests.support.adapter_folders import Stage, served, write_adapter

LONG = "ein sehr langes Bild von einem roten Drachen der auf einem Berg sitzt und schläft"


async def test_an_adapter_takes_its_tasks_and_a_rollback_gives_them_back(stage: Stage) -> None:
    told = await stage.told()
    assert told["registry"] == ["long", "one", "two"]
    assert told["before"] is None
    assert served(told) == dict.fromkeys(SERVED_TASKS)
    told = await stage.load("one")
    one = told["served"]["multilingual"]["adapter"]
    assert one.startswith("multilingual-")
    assert served(told) == {**dict.fromkeys(SERVED_TASKS), "multilingual": one}
    assert told["before"] == dict.fromkeys(SERVED_TASKS)
    assert (await stage.rewritten("rot"))["adapter"] == one
    info = (await stage.client.get("/info")).json()
    assert info["adapter"] == info["adapters"]["multilingual"] == one

    two = served(await stage.load("two"))["multilingual"]
    assert two != one
    assert (await stage.rewritten("rot"))["adapter"] == two
    assert sorted(str(e.adapter) for e in stage.engines.alive) == sorted(["None", str(two)])

    told = await stage.rollback()
    assert served(told)["multilingual"] == one
    assert told["before"]["multilingual"] == two
    assert (await stage.rewritten("rot"))["adapter"] == one
    assert served(await stage.rollback())["multilingual"] == two


async def test_every_task_may_have_its_own(stage: Stage) -> None:
    one = served(await stage.load("one"))["multilingual"]
    long = served(await stage.load("long"))["long"]
    assert (await stage.rewritten("rot"))["adapter"] == one
    assert (await stage.rewritten(LONG))["adapter"] == long
    assert (await stage.rewritten("rot", task="long"))["adapter"] == long
    answer = await stage.client.post("/search", json={"query": LONG, "rewrite": "always"})
    assert answer.json()["rewrite"]["adapter"] == long


async def test_the_gate_comes_with_the_adapter(stage: Stage) -> None:
    await stage.load("long")
    told = (await stage.told())["served"]
    assert told["long"]["gate"]["plain"] == 0.9
    assert told["multilingual"]["gate"] == Gate().model_dump()
    query = "a picture of a red square that is hanging on a white wall in a room"
    search = (await stage.client.post("/search", json={"query": query})).json()
    assert search["rewrite"]["status"] == "rewritten", "under .9 of the known queries' scores"
    await stage.rollback()
    search = (await stage.client.post("/search", json={"query": "red square"})).json()
    assert search["rewrite"]["status"] == "kept"


async def test_the_mixture_comes_with_the_adapter(stage: Stage) -> None:
    unfitted = (await stage.load("one"))["served"]["multilingual"]["mixture"]
    assert unfitted == Mixture().model_dump()
    index = (await stage.client.get("/info")).json()["index"]
    sha256 = index["encoder"]["weights_sha256"]
    fitted = Mixture(tau=0.07, encoder_weights_sha256=sha256)
    (stage.registry / "one" / MIXTURE_JSON).write_text(fitted.model_dump_json())
    told = await stage.load("one")  # the same weights
    assert told["served"]["multilingual"]["mixture"] == fitted.model_dump()
    answer = await stage.client.post("/search", json={"query": "rot", "rewrite": "always"})
    assert answer.json()["rewrite"]["tau"] == 0.07
    assert (await stage.client.get("/info")).json()["mixture"]["tau"] == 0.07


async def test_an_adapter_for_queries_of_another_form_is_served_with_a_warning(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """One without a record, as older versions wrote it, is served without."""
    await stage.load("two")
    assert "normalised in another way" not in caplog.text
    manifest = stage.registry / "one" / GRAPE_JSON
    manifest.write_text(
        json.dumps({**json.loads(manifest.read_text()), "normalisation": "another"})
    )
    one = served(await stage.load("one"))["multilingual"]
    assert f"The adapter {one} was trained on queries that were normalised" in caplog.text


async def test_requests_on_their_way_finish_where_they_are(stage: Stage) -> None:
    one = served(await stage.load("one"))["multilingual"]
    stage.engines.may_answer.clear()
    early = asyncio.create_task(stage.rewritten("früh"))
    await asyncio.sleep(0.05)
    loading = asyncio.create_task(stage.load("two"))
    while served(await stage.told())["multilingual"] == one:
        await asyncio.sleep(0.01)
    assert not early.done()
    stage.engines.may_answer.set()
    late = asyncio.create_task(stage.rewritten("spät"))
    assert (await early)["adapter"] == one
    two = served(await loading)["multilingual"]
    assert (await late)["adapter"] == two
    # The same query, which is kept in memory, is asked anew.
    assert (await stage.rewritten("früh"))["adapter"] == two


async def test_a_change_under_load_loses_and_crosses_nothing(stage: Stage) -> None:
    await stage.load("one")
    stage.engines.delay = 0.05
    done = False
    seen: set[str] = set()

    async def client(number: int) -> None:
        asked = 0
        while not done:
            asked += 1
            # Few queries, so that the cache and the flights are shared over all changes.
            result = await stage.rewritten(f"Wort {(number + asked) % 5}")
            assert result["status"] == "rewritten", result["reason"]
            seen.add(result["adapter"])

    clients = [asyncio.create_task(client(number)) for number in range(8)]
    for name in ("two", "one", "two", "one"):
        await asyncio.sleep(0.05)
        now = served(await stage.load(name))["multilingual"]
        for number in range(5):  # what was written before the change is not served after it
            assert (await stage.rewritten(f"Wort {number}"))["adapter"] == now
    await stage.rollback()
    done = True
    await asyncio.gather(*clients)
    assert len(seen) == 2


async def test_what_is_served_is_a_copy_under_its_own_name(stage: Stage) -> None:
    told = await stage.load("one")
    first = served(told)["multilingual"]
    folder = stage.registry / "one"
    (folder / "adapter_model.safetensors").write_bytes(b"other")
    stage.engines.of(first).dead = True  # its next engine is made from what was loaded
    while (
        len(stage.engines.started) < 3
        or not (await stage.told())["served"]["multilingual"]["ready"]
    ):
        await asyncio.sleep(0.02)
    adapter = stage.engines.of(first)._adapter
    assert adapter
    assert (adapter.folder / "adapter_model.safetensors").read_bytes() == b"one"
    assert served(await stage.load("one"))["multilingual"] != first


async def test_the_same_content_is_not_started_twice(stage: Stage) -> None:
    told = await stage.load("one")
    started = list(stage.engines.started)
    assert await stage.load("one") == told
    assert stage.engines.started == started
    write_adapter(
        stage.registry / "same", stage.base, "multilingual", weights=b"one", gate=Gate(plain=0.3)
    )
    told = await stage.load("same")
    assert told["served"]["multilingual"]["gate"]["plain"] == 0.3
    assert stage.engines.started == started


async def test_one_who_leaves_does_not_stop_a_change(stage: Stage) -> None:
    stage.engines.start_delay = 0.2
    loading = asyncio.create_task(stage.load("one"))
    await asyncio.sleep(0.05)
    loading.cancel()
    while served(await stage.told())["multilingual"] is None:
        await asyncio.sleep(0.02)
    assert (await stage.rewritten("rot"))["status"] == "rewritten"


async def test_an_engine_that_dies_in_a_change_degrades_and_no_more(stage: Stage) -> None:
    one = served(await stage.load("one"))["multilingual"]
    stage.engines.start_delay = 0.4
    loading = asyncio.create_task(stage.load("two"))
    await asyncio.sleep(0.1)
    stage.engines.of(one).dead = True
    assert (await stage.rewritten("neu"))["status"] == "fallback"
    search = await stage.client.post("/search", json={"query": "neues", "rewrite": "always"})
    assert search.json()["degraded"] is True
    assert search.json()["hits"]
    assert (await stage.client.get("/livez")).status_code == 200
    two = served(await loading)["multilingual"]
    assert (await stage.rewritten("neu"))["adapter"] == two
    # The old engine was being started again when it was given up; nothing of it stays.
    while len(stage.engines.alive) > 2:
        await asyncio.sleep(0.02)
    stage.engines.of(two).dead = True
    assert (await stage.rewritten("dann"))["status"] == "fallback"
    while (await stage.rewritten("später"))["status"] == "fallback":
        await asyncio.sleep(0.02)
    assert (await stage.rewritten("später"))["adapter"] == two


def test_who_has_lost_its_tasks_hands_over_the_rest(stage: Stage) -> None:
    def slot(name: str, *tasks: str) -> AdapterSlot:
        folder = write_adapter(stage.base.parent / name, stage.base, *tasks, weights=name.encode())
        adapter = open_adapter(folder, None) if tasks else None
        return AdapterSlot(
            RewriterHost(None, adapter, 1, RewriteCache(0, Metrics())), adapter, Gate()
        )

    base, both = slot("base-model"), slot("both", "multilingual", "long")
    names, texts = slot("names", "multilingual"), slot("texts", "long")
    start = dict.fromkeys(TASKS, base)
    assert with_slot(start, names) == {**start, "multilingual": names}
    start = dict.fromkeys(TASKS, both)
    after = with_slot(start, names)
    assert after == {**start, "multilingual": names}
    assert with_slot(after, texts) == {**dict.fromkeys(TASKS, texts), "multilingual": names}
