"""The application on the real encoder and a small real index; tests control its rewriter."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import httpx
import pytest
from PIL import Image

from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.retriever.manifest import IndexOptions
from models.rewriter.likelihood import Continuation
from models.rewriter.protocol import (
    Completion,
    Completions,
    OnText,
    Prompt,
    RewriterDown,
    Sampling,
    WrittenTokens,
)
from models.search.gate import Gate
from service.api.app import create_app
from service.runtime import loading
from service.runtime import service as state
from service.settings import Settings
from tests.support.adapter_folders import Engines, Stage, write_adapter, write_base

if TYPE_CHECKING:  # its import takes five seconds, which tests without a model need not wait for
    from models.retriever.clip_encoder import ClipEncoder

COLOURS = ["red", "green", "blue", "yellow", "black"]


class FakeRewriter:
    """Answers from a table. Tests can delay it, let it fail or hold its answers back."""

    adapter = None
    sees_pictures = False

    def __init__(self) -> None:
        self.answers = {"ein rotes Bild": "a red square"}
        self.error: Exception | None = None
        self.delay = 0.0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.cancelled = 0
        self.calls: list[tuple[str, Sampling]] = []
        self.likelihoods: dict[str, float] = {}  # of any query after a caption; others -9
        self.compared: list[Continuation] = []
        self.rated: list[str] = []  # groups, each with its query
        self.ratings: Callable[[str], WrittenTokens] = lambda _: WrittenTokens([], [])

    async def complete(
        self,
        prompt: Prompt,
        sampling: Sampling,
        on_text: OnText | None = None,
        within_s: float | None = None,
    ) -> Completions:
        self.calls.append((prompt.query, sampling))
        try:
            await asyncio.sleep(self.delay)
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error:
            raise self.error
        answer = self.answers.get(prompt.query, f" rewritten {prompt.query}")
        if on_text and not sampling.temperature:  # several samples are not streamed
            on_text(answer[:3])
            on_text(answer)
        return Completions([Completion(answer)] * (sampling.n if sampling.temperature else 1))

    async def log_likelihoods(self, asked: Continuation) -> list[float]:
        self.compared.append(asked)
        await asyncio.sleep(self.delay)
        if self.error:
            raise self.error
        captions = [re.search(r"English: (.*)\nWord:$", prompt) for prompt in asked.prompts]
        return [self.likelihoods.get(found[1], -9.0) if found else -9.0 for found in captions]

    async def written_tokens(self, prompts: Sequence[Prompt]) -> list[WrittenTokens]:
        self.rated += [prompt.query for prompt in prompts]
        await asyncio.sleep(self.delay)
        if self.error:
            raise self.error
        return [self.ratings(prompt.query) for prompt in prompts]

    async def check(self) -> None:
        if isinstance(self.error, RewriterDown):
            raise self.error

    async def close(self) -> None:
        pass


@pytest.fixture(scope="session")
def small_index(tmp_path_factory: pytest.TempPathFactory, encoder: "ClipEncoder") -> Path:
    """Five squares, each of one colour."""
    folder = tmp_path_factory.mktemp("squares")
    images = {name: Image.new("RGB", (64, 64), name) for name in COLOURS}
    for name, image in images.items():
        image.save(folder / f"{name}.png")
    ids = [f"{name}.png" for name in COLOURS]
    index = ImageIndex.build(
        encoder.encode_images(images.values()),
        ids,
        [{"file": file, "name": file[:-4]} for file in ids],
        encoder.fingerprint,
        IndexOptions(pictures=folder),
    )
    index.learn_known_scores(encoder.encode_texts([f"a {name} square" for name in COLOURS]))
    index.save(folder / "index")
    return folder / "index"


@pytest.fixture
def rewriter() -> FakeRewriter:
    return FakeRewriter()


class Start(Protocol):
    """Starts the application with these settings; waits until it is ready unless told not to."""

    async def __call__(self, wait: bool = True, **settings: object) -> httpx.AsyncClient: ...


@pytest.fixture
async def start(
    small_index: Path,
    rewriter: FakeRewriter,
    encoder: "ClipEncoder",
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Start]:
    """Starts the application with other settings: ``client = await start(max_in_flight=1)``."""
    monkeypatch.setattr(state, "start_rewriter", lambda settings, adapter: rewriter)
    monkeypatch.setattr(state, "import_engine_ahead", lambda options: None)
    monkeypatch.setattr(state, "vllm_options", lambda settings: None)
    # They collect the garbage of the whole test run, which took most of the time of these tests.
    monkeypatch.setattr(state, "keep_what_is_loaded", lambda: None)
    monkeypatch.setattr("service.rewriting.host.keep_what_is_loaded", lambda: None)
    monkeypatch.setattr("service.rewriting.host.give_back_memory", lambda: None)
    monkeypatch.setattr("models.retriever.clip_encoder.ClipEncoder", lambda *arguments: encoder)
    monkeypatch.setattr("service.rewriting.host.CHECK_EVERY_S", 0.05)
    monkeypatch.setattr("service.rewriting.host.RESTART_AFTER_S", (0.05,))
    async with AsyncExitStack() as stack:
        defaults = {"index": small_index, "allowed_hosts": "test"}

        async def begin(wait: bool = True, **settings: object) -> httpx.AsyncClient:
            app = create_app(Settings.model_validate(defaults | settings))
            await stack.enter_async_context(app.router.lifespan_context(app))
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            client = httpx.AsyncClient(transport=transport, base_url="http://test")
            await stack.enter_async_context(client)
            while wait and not (await client.get("/readyz")).is_success:
                await asyncio.sleep(0.01)
            return client

        yield begin


@pytest.fixture
async def client(start: Start) -> httpx.AsyncClient:
    return await start()


@pytest.fixture
async def stage(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Serves the base model; the registry holds `one` and `two` for names, `long` for texts."""
    monkeypatch.setenv("GRAPE_CACHE", str(tmp_path / "cache"))
    engines = Engines()
    monkeypatch.setattr(state, "start_rewriter", engines.start)
    monkeypatch.setattr(state, "require_room", lambda options: None)
    monkeypatch.setattr(loading, "attaches_adapters", lambda: False)
    registry, base = tmp_path / "registry", write_base(tmp_path / "base")
    registry.mkdir()
    write_adapter(registry / "one", base, "multilingual", weights=b"one")
    write_adapter(registry / "two", base, "multilingual", weights=b"two")
    write_adapter(registry / "long", base, "long", gate=Gate(plain=0.9))
    client = await start(adapter_registry=registry, llm=str(base), rewrite_timeout_s=2)
    return Stage(client, engines, registry, base)
