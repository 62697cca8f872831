"""Adapters change while the service runs: nothing is lost, crossed or served from before."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from models.adapter import open_adapter
from models.errors import GrapeError
from models.gate import Gate
from models.rewriter import RewriterDown
from models.tasks import TASKS
from service import live, state
from service.adapters import Voice, with_voice
from service.errors import ErrorType
from service.metrics import Metrics
from service.rewrite_cache import RewriteCache
from service.rewriting import RewriterHost
from tests.service.adapter_folders import Engines, write_adapter, write_base
from tests.service.test_routes import problem

LONG = "ein sehr langes Bild von einem roten Drachen der auf einem Berg sitzt und schläft"


class Stage(NamedTuple):
    client: httpx.AsyncClient
    engines: Engines
    registry: Path
    base: Path

    async def load(self, name: str) -> dict[str, Any]:
        response = await self.client.post("/admin/adapters", json={"name": name})
        assert response.status_code == 200, response.text
        told: dict[str, Any] = response.json()
        return told

    async def rollback(self) -> dict[str, Any]:
        response = await self.client.post("/admin/adapters", json={"rollback": True})
        assert response.status_code == 200, response.text
        told: dict[str, Any] = response.json()
        return told

    async def told(self) -> dict[str, Any]:
        told: dict[str, Any] = (await self.client.get("/admin/adapters")).json()
        return told

    async def rewritten(self, query: str, **wishes: object) -> dict[str, Any]:
        body = {"query": query, **wishes}
        (result,) = (await self.client.post("/rewrite", json=body)).json()["results"]
        if result["status"] == "rewritten":  # whoever is named must have written it
            assert result["rewrites"][0]["text"] == f"{result['adapter']} wrote {query}"
        assert isinstance(result, dict)
        return result

    async def refused(self, name: str) -> str:
        """A load that fails changes nothing."""
        before = await self.told()
        alive = list(self.engines.alive)
        response = await self.client.post("/admin/adapters", json={"name": name})
        reason = problem(response, 422, ErrorType.ADAPTER_REFUSED)
        assert await self.told() == before
        assert self.engines.alive == alive
        assert (await self.rewritten("noch da"))["status"] == "rewritten"
        return reason


def served(told: dict[str, Any]) -> dict[str, str | None]:
    return {task: voice["adapter"] for task, voice in told["served"].items()}


@pytest.fixture
async def stage(
    start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Stage:
    """The base model is served; the registry has `one` and `two` for names, `long` for texts."""
    monkeypatch.setenv("GRAPE_CACHE", str(tmp_path / "cache"))
    engines = Engines()
    monkeypatch.setattr(state, "start_rewriter", engines.start)
    monkeypatch.setattr(live, "require_room", lambda options: None)
    monkeypatch.setattr(live, "attaches_adapters", lambda: False)
    registry, base = tmp_path / "registry", write_base(tmp_path / "base")
    registry.mkdir()
    write_adapter(registry / "one", base, "multilingual", weights=b"one")
    write_adapter(registry / "two", base, "multilingual", weights=b"two")
    write_adapter(registry / "long", base, "long", gate=Gate(plain=0.9))
    client = await start(adapter_registry=registry, llm=str(base), rewrite_timeout_s=2)
    return Stage(client, engines, registry, base)


async def test_without_a_registry_there_is_no_such_route(client: httpx.AsyncClient) -> None:
    for response in (
        await client.get("/admin/adapters"),
        await client.post("/admin/adapters", json={"name": "one"}),
    ):
        problem(response, 404, ErrorType.NOT_FOUND)


async def test_an_adapter_takes_its_tasks_and_a_rollback_gives_them_back(stage: Stage) -> None:
    told = await stage.told()
    assert told["registry"] == ["long", "one", "two"]
    assert told["before"] is None
    assert served(told) == dict.fromkeys(TASKS)
    told = await stage.load("one")
    one = told["served"]["multilingual"]["adapter"]
    assert one.startswith("multilingual-")
    assert served(told) == {**dict.fromkeys(TASKS), "multilingual": one}
    assert told["before"] == dict.fromkeys(TASKS)
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


async def test_requests_on_their_way_finish_where_they_are(stage: Stage) -> None:
    one = served(await stage.load("one"))["multilingual"]
    stage.engines.delay = 0.5
    early = asyncio.create_task(stage.rewritten("früh"))
    await asyncio.sleep(0.05)
    loading = asyncio.create_task(stage.load("two"))
    while served(await stage.told())["multilingual"] == one:
        await asyncio.sleep(0.01)
    assert not early.done()
    late = asyncio.create_task(stage.rewritten("spät"))
    assert (await early)["adapter"] == one
    two = served(await loading)["multilingual"]
    assert (await late)["adapter"] == two
    # The same query, which is kept in memory, is asked anew.
    assert (await stage.rewritten("früh"))["adapter"] == two


async def test_a_change_under_load_loses_and_crosses_nothing(stage: Stage) -> None:
    await stage.load("one")
    stage.engines.delay = 0.01
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

    clients = [asyncio.create_task(client(number)) for number in range(16)]
    for name in ("two", "one", "two", "one", "two"):
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


@pytest.mark.parametrize(
    "name", ["../one", "a/b", "/etc", ".", "..", "", ".one", "one\x00", "one/", "a" * 101, "ö\\x"]
)
async def test_a_name_that_leads_elsewhere_is_refused(stage: Stage, name: str) -> None:
    assert "plain name" in await stage.refused(name)


async def test_only_folders_of_the_registry_are_loaded(stage: Stage, tmp_path: Path) -> None:
    outside = write_adapter(tmp_path / "outside", stage.base, "multilingual", weights=b"outside")
    (stage.registry / "link").symlink_to(outside)
    for name in ("none", "link"):
        response = await stage.client.post("/admin/adapters", json={"name": name})
        assert "no folder" in problem(response, 404, ErrorType.NOT_FOUND)
    assert "link" not in (await stage.told())["registry"]
    weights = stage.registry / "one" / "adapter_model.safetensors"
    weights.unlink()
    assert "adapter_model.safetensors is missing" in await stage.refused("one")
    weights.symlink_to(outside / "adapter_model.safetensors")
    assert "cannot be copied" in await stage.refused("one")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rank": 128}, "The adapter odd cannot be served: its rank 128 is over the limit"),
        ({"revision": "f" * 64}, "trained on tiny ffffffffffff"),
    ],
)
async def test_an_adapter_that_does_not_fit_changes_nothing(
    stage: Stage, changes: dict[str, Any], reason: str
) -> None:
    write_adapter(stage.registry / "odd", stage.base, "multilingual", **changes)
    assert reason in await stage.refused("odd")


async def test_an_adapter_that_is_not_applied_changes_nothing(stage: Stage) -> None:
    stage.engines.unapplied = True
    assert "is not applied" in await stage.refused("one")


@pytest.mark.parametrize("error", [RewriterDown("no engine"), RuntimeError("no engine")])
async def test_an_engine_that_does_not_start_changes_nothing(
    stage: Stage, error: Exception
) -> None:
    stage.engines.start_error = error
    assert await stage.refused("one") == "Nothing has changed: no engine."


async def test_without_memory_nothing_is_started(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(options: object) -> None:
        raise GrapeError("no memory")

    monkeypatch.setattr(live, "require_room", full)
    started = list(stage.engines.started)
    assert "no memory" in await stage.refused("one")
    assert stage.engines.started == started


async def test_a_gate_that_cannot_be_read_is_refused(stage: Stage) -> None:
    (stage.registry / "one" / "gate.json").write_text("{")
    assert "not a fitted gate" in await stage.refused("one")


async def test_one_change_at_a_time(stage: Stage) -> None:
    stage.engines.start_delay = 0.3
    loading = asyncio.create_task(stage.load("one"))
    while (await stage.told())["changing"] is None:
        await asyncio.sleep(0.01)
    response = await stage.client.post("/admin/adapters", json={"name": "two"})
    assert "under way (one)" in problem(response, 409, ErrorType.CONFLICT)
    assert (await loading)["changing"] is None
    await stage.load("two")


async def test_before_the_first_change_there_is_nothing_to_go_back_to(stage: Stage) -> None:
    response = await stage.client.post("/admin/adapters", json={"rollback": True})
    assert "nothing to roll back" in problem(response, 409, ErrorType.CONFLICT)


async def test_one_who_leaves_does_not_stop_a_change(stage: Stage) -> None:
    stage.engines.start_delay = 0.2
    loading = asyncio.create_task(stage.load("one"))
    await asyncio.sleep(0.05)
    loading.cancel()
    while served(await stage.told())["multilingual"] is None:
        await asyncio.sleep(0.02)
    assert (await stage.rewritten("rot"))["status"] == "rewritten"


@pytest.mark.parametrize(
    "body", [{}, {"name": "one", "rollback": True}, {"rollback": False}, {"name": 3}, {"path": "x"}]
)
async def test_a_change_is_a_name_or_a_rollback(stage: Stage, body: dict[str, object]) -> None:
    response = await stage.client.post("/admin/adapters", json=body)
    problem(response, 422, ErrorType.VALIDATION)


async def test_a_form_of_another_site_changes_nothing(stage: Stage) -> None:
    """Browsers send such a body anywhere without asking; JSON they do not."""
    response = await stage.client.post(
        "/admin/adapters", content='{"name": "one"}', headers={"content-type": "text/plain"}
    )
    problem(response, 422, ErrorType.VALIDATION)


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
    def voice(name: str, *tasks: str) -> Voice:
        folder = write_adapter(stage.base.parent / name, stage.base, *tasks, weights=name.encode())
        adapter = open_adapter(folder, None) if tasks else None
        return Voice(RewriterHost(None, adapter, 1, RewriteCache(0, Metrics())), adapter, Gate())

    base, both = voice("base-model"), voice("both", "multilingual", "long")
    names, texts = voice("names", "multilingual"), voice("texts", "long")
    start = dict.fromkeys(TASKS, base)
    assert with_voice(start, names) == {**start, "multilingual": names}
    start = dict.fromkeys(TASKS, both)
    after = with_voice(start, names)
    assert after == {**start, "multilingual": names}
    assert with_voice(after, texts) == {**dict.fromkeys(TASKS, texts), "multilingual": names}
