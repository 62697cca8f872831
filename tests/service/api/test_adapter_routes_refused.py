"""Changes of adapters that are refused: the reason is returned and nothing changes."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.client.wire import ErrorType
from models.common.errors import GrapeError
from models.rewriter.protocol import RewriterDown
from service.runtime import service as state
from tests.service.api.test_routes import problem
from tests.support.adapter_folders import Stage, write_adapter


async def test_without_a_registry_there_is_no_such_route(client: httpx.AsyncClient) -> None:
    for response in (
        await client.get("/admin/adapters"),
        await client.post("/admin/adapters", json={"name": "one"}),
    ):
        problem(response, 404, ErrorType.NOT_FOUND)


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

    monkeypatch.setattr(state, "require_room", full)
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
