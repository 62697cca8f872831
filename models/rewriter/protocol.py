"""The Rewriter protocol: turns a query into texts that the encoder understands."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from models.common.errors import GrapeError
from models.rewriter.tasks import STOP, Task
from models.rewriter.vision import SEEN, SeenTask

SEED = 0


class RewriteFailed(GrapeError):
    """The language model did not answer this query; the search uses the original one."""


class RewriterDown(RewriteFailed):
    """The language model is down and will not answer the next query either."""


class Sampling(NamedTuple):
    """How rewrites are sampled. Temperature 0 gives the same rewrite every time."""

    n: int = 1
    temperature: float = 0.0

    def parameters(self, task: Task | SeenTask) -> dict[str, Any]:
        """Parameter names shared by vLLM and every OpenAI-compatible server."""
        # All greedy answers are equal.
        return {
            "n": self.n if self.temperature > 0 else 1,
            "temperature": self.temperature,
            "max_tokens": task.max_tokens,
            "stop": [STOP],
            "seed": SEED,
        }


OnText = Callable[[str], None]  # called with the whole text so far whenever it grows


class Prompt(NamedTuple):
    """A query for the language model."""

    task: Task
    query: str
    picture: bytes | None = None  # an image file, only for a model that reads images

    @property
    def form(self) -> Task | SeenTask:
        """The prompt template. A model that sees the image gets a different one."""
        return self.task if self.picture is None else SEEN


class Rewriter(Protocol):
    """Safe for concurrent requests. Cancelling a call stops the work for it."""

    @property
    def adapter(self) -> str | None:
        """Name of the adapter that answers, with its content hash. None for the base model."""

    @property
    def sees_pictures(self) -> bool:
        """Whether the model reads images. Otherwise an image is described to it in words."""

    async def complete(
        self, prompt: Prompt, sampling: Sampling, on_text: OnText | None = None
    ) -> list[str]:
        """The unparsed continuations of the prompt, one per sample.

        Args:
            on_text: receives the text of a single sample as it grows. Not called for several.

        Raises:
            PictureError: the image cannot be decoded.
            RewriteFailed: no answer to this query.
            RewriterDown: no answer to any query.
        """

    async def check(self) -> None:
        """Returns at once. Raises :class:`RewriterDown` if the model cannot answer now."""

    async def close(self) -> None:
        """Stops what was started, including processes."""
