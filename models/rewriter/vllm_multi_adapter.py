"""One engine for several adapters, as a GPU serves them: attached, each request with its own."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from models.rewriter.adapter import Adapter
from models.rewriter.protocol import OnText, Prompt, Rewriter, RewriterDown, Sampling
from models.rewriter.vllm import VLLMRewriter


@dataclass
class _Running:
    engine: VLLMRewriter
    users: int = 0


class SharedEngine:
    """Starts the engine with its first user and ends it with its last; a dead one is replaced."""

    def __init__(self, start: Callable[[], VLLMRewriter]) -> None:
        self._start = start
        self._running: _Running | None = None
        self._turn = asyncio.Lock()  # or two users would start two engines

    async def attach(self, adapter: Adapter | None) -> Rewriter:
        """A rewriter of its own for each adapter, or for the base model.

        Raises:
            InputError: the engine or the adapter cannot be used.
            RewriterDown: the engine did not start, or has died.
        """
        async with self._turn:
            running = await self._alive()
            slot = await running.engine.attached(adapter) if adapter else running.engine
            running.users += 1
            return _Attached(self, running, slot)

    async def _alive(self) -> _Running:
        if self._running:
            with contextlib.suppress(RewriterDown):
                await self._running.engine.check()
                return self._running
        self._running = _Running(await asyncio.to_thread(self._start))
        return self._running

    async def leave(self, running: _Running, slot: VLLMRewriter) -> None:
        """Detaches a voice, and ends the engine when it was the last."""
        async with self._turn:
            running.users -= 1
            if running.users:
                with contextlib.suppress(Exception):  # of a dead engine there is nothing to detach
                    await slot.detach()
                return
            if self._running is running:
                self._running = None
            await running.engine.close()


class _Attached:
    """What one adapter answers."""

    def __init__(self, shared: SharedEngine, running: _Running, slot: VLLMRewriter) -> None:
        self._shared = shared
        self._running = running
        self._slot = slot

    @property
    def adapter(self) -> str | None:
        return self._slot.adapter

    @property
    def sees_pictures(self) -> bool:
        return self._slot.sees_pictures

    async def complete(
        self, prompt: Prompt, sampling: Sampling, on_text: OnText | None = None
    ) -> list[str]:
        return await self._slot.complete(prompt, sampling, on_text)

    async def check(self) -> None:
        await self._slot.check()

    async def close(self) -> None:
        await self._shared.leave(self._running, self._slot)
