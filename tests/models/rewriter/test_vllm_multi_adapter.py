"""One engine for several adapters: started once, replaced when dead, ended with its last user.

With a real engine: tests/e2e/test_adapters_live.py.
"""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from models.common.errors import InputError
from models.rewriter.protocol import Completions, Prompt, RewriterDown, Sampling
from models.rewriter.tasks import LONG
from models.rewriter.vllm_multi_adapter import SharedEngine
from tests.support.completions import completions


class FakeEngine:
    def __init__(self, adapter: str | None = None, root: "FakeEngine | None" = None) -> None:
        self.adapter = adapter
        self.root = root or self
        self.sees_pictures = False
        self.dead = False
        self.closed = 0
        self.detached: list[str | None] = []

    async def attached(self, adapter: Any) -> "FakeEngine":
        if adapter.name == "misfit":
            raise InputError("it does not fit")
        return FakeEngine(adapter.name, self)

    async def detach(self) -> None:
        self.root.detached.append(self.adapter)

    async def complete(self, *_: object) -> Completions:
        return completions(str(self.adapter))

    async def check(self) -> None:
        if self.root.dead:
            raise RewriterDown("dead")

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture
def started() -> list[FakeEngine]:
    return []


@pytest.fixture
def shared(started: list[FakeEngine]) -> SharedEngine:
    def start() -> FakeEngine:
        time.sleep(0.05)  # long enough for two to meet
        started.append(FakeEngine())
        return started[-1]

    return SharedEngine(start)  # type: ignore[arg-type]


def named(name: str) -> Any:
    return SimpleNamespace(name=name)


async def test_all_share_one_engine_and_the_last_ends_it(
    shared: SharedEngine, started: list[FakeEngine]
) -> None:
    base, one, two = await asyncio.gather(
        shared.attach(None), shared.attach(named("one")), shared.attach(named("two"))
    )
    (engine,) = started
    assert [slot.adapter for slot in (base, one, two)] == [None, "one", "two"]
    assert await two.complete(Prompt(LONG, "x"), Sampling()) == completions("two")
    await one.close()
    assert engine.detached == ["one"]
    await base.close()
    assert int(engine.closed) == 0
    await two.close()
    assert int(engine.closed) == 1
    await shared.attach(named("one"))
    assert len(started) == 2


async def test_an_adapter_that_is_refused_costs_no_other(
    shared: SharedEngine, started: list[FakeEngine]
) -> None:
    one = await shared.attach(named("one"))
    with pytest.raises(InputError):
        await shared.attach(named("misfit"))
    await one.check()
    await one.close()
    assert started[0].closed == 1


async def test_a_dead_engine_is_replaced_once(
    shared: SharedEngine, started: list[FakeEngine]
) -> None:
    slots = [await shared.attach(named(name)) for name in ("one", "two")]
    started[0].dead = True
    for slot in slots:
        with pytest.raises(RewriterDown):
            await slot.check()
    await asyncio.gather(*(slot.close() for slot in slots))
    again = await asyncio.gather(shared.attach(named("one")), shared.attach(named("two")))
    assert len(started) == 2
    for slot in again:
        await slot.check()
    assert started[0].closed == 1


async def test_who_leaves_a_dead_engine_late_does_not_end_the_new_one(
    shared: SharedEngine, started: list[FakeEngine]
) -> None:
    late = await shared.attach(named("late"))
    started[0].dead = True
    one = await shared.attach(named("one"))
    await late.close()
    await one.check()
    assert [engine.closed for engine in started] == [1, 0]
