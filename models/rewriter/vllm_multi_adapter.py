"""One engine for several attached adapters, which is how a GPU serves them."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from models.rewriter.adapter import Adapter
from models.rewriter.likelihood import Continuation
from models.rewriter.protocol import (
    Completions,
    OnText,
    Prompt,
    Rewriter,
    RewriterDown,
    Sampling,
    WrittenTokens,
)
from models.rewriter.vllm import VLLMRewriter


@dataclass
class _Running:
    engine: VLLMRewriter
    users: int = 0


class SharedEngine:
    """Starts the engine for its first user and stops it after its last. Replaces a dead engine."""

    def __init__(self, start: Callable[[], VLLMRewriter]) -> None:
        self._start = start
        self._running: _Running | None = None
        self._turn = asyncio.Lock()  # otherwise two users would start two engines

    async def attach(self, adapter: Adapter | None) -> Rewriter:
        """A rewriter for one adapter, or for the base model.

        Raises:
            InputError: the engine or the adapter cannot be used.
            RewriterDown: the engine did not start, or has died.
        """
        async with self._turn:
            running = await self._alive()
            rewriter = await running.engine.attached(adapter) if adapter else running.engine
            running.users += 1
            return _Attached(self, running, rewriter)

    async def _alive(self) -> _Running:
        if self._running:
            with contextlib.suppress(RewriterDown):
                await self._running.engine.check()
                return self._running
        self._running = _Running(await asyncio.to_thread(self._start))
        return self._running

    async def leave(self, running: _Running, rewriter: VLLMRewriter) -> None:
        """Detaches the adapter of a rewriter, and stops the engine after its last user."""
        async with self._turn:
            running.users -= 1
            if running.users:
                with contextlib.suppress(Exception):  # the engine may be dead
                    await rewriter.detach()
                return
            if self._running is running:
                self._running = None
            await running.engine.close()


class _Attached:
    """The rewriter of one adapter on the shared engine."""

    def __init__(self, shared: SharedEngine, running: _Running, rewriter: VLLMRewriter) -> None:
        self._shared = shared
        self._running = running
        self._rewriter = rewriter

    @property
    def adapter(self) -> str | None:
        return self._rewriter.adapter

    @property
    def sees_pictures(self) -> bool:
        return self._rewriter.sees_pictures

    async def complete(
        self,
        prompt: Prompt,
        sampling: Sampling,
        on_text: OnText | None = None,
        within_s: float | None = None,
    ) -> Completions:
        return await self._rewriter.complete(prompt, sampling, on_text, within_s)

    async def log_likelihoods(self, asked: Continuation) -> list[float]:
        return await self._rewriter.log_likelihoods(asked)

    async def written_tokens(self, prompts: Sequence[Prompt]) -> list[WrittenTokens]:
        return await self._rewriter.written_tokens(prompts)

    async def check(self) -> None:
        await self._rewriter.check()

    async def close(self) -> None:
        await self._shared.leave(self._running, self._rewriter)
