"""Which rewriter answers which task, and changing that while searches go on."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

from models.common.errors import GrapeError, InputError
from models.rewriter.adapter import Adapter
from models.rewriter.protocol import OnText, Prompt, Sampling
from models.rewriter.tasks import SERVED_TASKS
from models.search.gate import Gate
from models.search.mixture import Mixture
from models.search.rerank import Comparison
from service.rewriting.comparing import Compared
from service.rewriting.host import RewriterHost, Rewritten

log = logging.getLogger("grape")


class Busy(GrapeError):
    """Another change is under way."""


class NothingBefore(GrapeError):
    """There is nothing to roll back to."""


class LoadFailed(InputError):
    """The adapter cannot be served. Nothing has changed."""


@dataclass(frozen=True)
class AdapterSlot:
    """What answers some of the tasks: an adapter or the base model, with what was fitted to it."""

    host: RewriterHost
    adapter: Adapter | None
    gate: Gate
    mixture: Mixture = field(default_factory=Mixture)

    @property
    def name(self) -> str | None:
        return self.adapter.name if self.adapter else None

    def claims(self, task: str) -> bool:
        """Whether the adapter was trained for the task."""
        return self.adapter is not None and task in self.adapter.manifest.tasks


Routing = Mapping[str, AdapterSlot]  # by task


class Rewriters:
    """The rewriter of every task. Several tasks may share one.

    A change replaces the routing in one assignment. A request reads it once, so that its gate, its
    rewrite and the adapter that it reports belong together.
    """

    def __init__(
        self,
        first: AdapterSlot,
        make_room: Callable[[], None] = lambda: None,
        reranker: AdapterSlot | None = None,
    ) -> None:
        """``make_room`` raises GrapeError if another rewriter cannot run at the same time."""
        self._routing: Routing = dict.fromkeys(SERVED_TASKS, first)
        if reranker:
            self._routing = with_slot(self._routing, reranker)
        self._before: Routing | None = None
        self._make_room = make_room
        self._group: asyncio.TaskGroup | None = None
        self._supervising: dict[RewriterHost, asyncio.Task[None]] = {}
        self._change_task: asyncio.Task[None] | None = None
        self.changing: str | None = None  # name of the adapter that is being loaded

    async def run(self) -> None:
        """Keeps all served rewriters alive until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for host in _hosts(self._routing):
                    self._supervise(host)
                await asyncio.Event().wait()
        finally:
            if self._change_task:
                self._change_task.cancel()

    @property
    def routing(self) -> Routing:
        return self._routing

    @property
    def before(self) -> Routing | None:
        """The routing that a rollback restores."""
        return self._before

    @property
    def switched_off(self) -> bool:
        """Whether the settings switch rewriting off."""
        return all(host.switched_off for host in _hosts(self._routing))

    @property
    def ready(self) -> bool:
        return all(host.ready for host in _hosts(self._routing))

    @property
    def reason(self) -> str:
        """Why it is not ready. Empty if it is."""
        return next((h.reason for h in _hosts(self._routing) if not h.ready), "")

    @property
    def sees_pictures(self) -> bool:
        """Whether the model for composed queries reads images."""
        return self.sees("composed")

    def sees(self, task: str) -> bool:
        """Whether the model for a task reads images."""
        return self._routing[task].host.sees_pictures

    def gate(self, task: str) -> Gate:
        """The gate of the task."""
        return self._routing[task].gate

    def mixture(self, task: str) -> Mixture:
        """The mixture that was fitted to what answers the task."""
        return self._routing[task].mixture

    async def rewrite(
        self, prompt: Prompt, sampling: Sampling, on_text: OnText | None = None
    ) -> Rewritten:
        """Rewrites one query within the deadline. Never raises for a failure of the rewriter."""
        return await self._routing[prompt.task.name].host.rewrite(prompt, sampling, on_text)

    async def compare(self, asked: Comparison) -> Compared:
        """Scores texts for a query within the deadline. Never raises for a failure of the model."""
        return await self._routing[asked.task].host.compare(asked)

    async def load(self, name: str, prepare: Callable[[], Awaitable[AdapterSlot]]) -> None:
        """Prepares a new slot, starts and proves its rewriter, and gives it its adapter's tasks.

        Returns when the rewriters that it replaces have answered their last request and are closed.

        Raises:
            Busy: another change is under way.
            LoadFailed: it does not fit, does not start, or its canaries do not prove it.
        """

        async def wanted() -> Routing:
            slot = await prepare()
            return with_slot(self._routing, self._running(slot))

        await self._change(name, wanted)

    async def rollback(self) -> None:
        """Restores what was served before the last change. A second rollback undoes the first.

        Raises:
            Busy: another change is under way.
            NothingBefore: there was no change.
            LoadFailed: what was served before no longer starts.
        """
        if (before := self._before) is None:
            raise NothingBefore("There is nothing to roll back to: no adapter has been loaded yet.")

        async def wanted() -> Routing:
            return before

        await self._change("rollback", wanted)

    async def _change(self, what: str, wanted: Callable[[], Awaitable[Routing]]) -> None:
        """Goes on with the change even if the request that asked for it is cancelled."""
        if self.changing:
            raise Busy(f"Another change is under way ({self.changing}); try again when it is done.")
        self.changing = what
        self._change_task = asyncio.create_task(self._apply(wanted))
        await asyncio.shield(self._change_task)

    async def _apply(self, wanted: Callable[[], Awaitable[Routing]]) -> None:
        try:
            await self._switch(await wanted())
        except GrapeError as error:
            log.warning("The adapters have not changed: %s", error)
            raise
        finally:
            self.changing = None

    async def _switch(self, wanted: Routing) -> None:
        old = self._routing
        if wanted == old:
            return
        new = _hosts(wanted) - _hosts(old)
        try:
            if new:
                self._make_room()
            for host in new:
                await host.begin()
        except BaseException as error:
            for host in new:
                await host.drop()
            if not isinstance(error, Exception):
                raise
            if not isinstance(error, GrapeError | TimeoutError):
                log.exception("an adapter was not loaded")
            reason = str(error).rstrip(".") or "it did not answer in time"
            raise LoadFailed(f"Nothing has changed: {reason}.") from error
        self._routing, self._before = wanted, old
        served = ", ".join(f"{task} by {slot.name}" for task, slot in wanted.items())
        log.info("Now served: %s", served)
        for host in new:
            self._supervise(host)
        for host in _hosts(old) - _hosts(wanted):
            await self._retire(host)

    def _supervise(self, host: RewriterHost) -> None:
        assert self._group, "a change needs run()"
        self._supervising[host] = self._group.create_task(host.run())

    async def _retire(self, host: RewriterHost) -> None:
        await host.idle()
        supervising = self._supervising.pop(host)
        supervising.cancel()
        await asyncio.wait([supervising])

    def _running(self, slot: AdapterSlot) -> AdapterSlot:
        """Reuses the running rewriter of an adapter that is served already."""
        for running in self._routing.values():
            if running.name == slot.name:
                return replace(running, gate=slot.gate, mixture=slot.mixture)
        return slot


def with_slot(routing: Routing, slot: AdapterSlot) -> Routing:
    """The routing in which the slot has its adapter's tasks.

    Another adapter that loses all of its own tasks also hands over the other tasks that it answered
    until then. On a CPU it would otherwise keep an engine for nothing. The base model keeps the
    tasks that no adapter takes.
    """
    after = {task: slot if slot.claims(task) else other for task, other in routing.items()}
    for task, other in after.items():
        own = [name for name in routing if other.claims(name)]
        if other.adapter and not any(after[name] is other for name in own):
            after[task] = slot
    return after


def _hosts(routing: Routing) -> set[RewriterHost]:
    return {slot.host for slot in routing.values()}
