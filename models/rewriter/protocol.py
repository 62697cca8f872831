"""The Rewriter protocol: what turns a query into texts that the encoder knows."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from models.common.errors import GrapeError
from models.rewriter.tasks import STOP, Task
from models.rewriter.vision import SEEN, SeenTask

SEED = 0


class RewriteFailed(GrapeError):
    """The language model did not answer; the search goes on with the original query."""


class RewriterDown(RewriteFailed):
    """The language model is gone and will not answer the next query either."""


class Sampling(NamedTuple):
    """How rewrites are drawn. Temperature 0 gives the same rewrite every time."""

    n: int = 1
    temperature: float = 0.0

    def parameters(self, task: Task | SeenTask) -> dict[str, Any]:
        """In the words that vLLM and every OpenAI-compatible server share."""
        # n greedy answers are one answer n times.
        return {
            "n": self.n if self.temperature > 0 else 1,
            "temperature": self.temperature,
            "max_tokens": task.max_tokens,
            "stop": [STOP],
            "seed": SEED,
        }


OnText = Callable[[str], None]  # hears the whole text so far, each time that it grows


class Prompt(NamedTuple):
    """One query as it is put to the language model."""

    task: Task
    query: str
    picture: bytes | None = None  # an encoded one, only for a model that reads pictures

    @property
    def form(self) -> Task | SeenTask:
        """The prompt that the model is asked with: about a picture that it sees it is another."""
        return self.task if self.picture is None else SEEN


class Rewriter(Protocol):
    """Safe to call from many requests at once; cancelling the call stops the work for it."""

    @property
    def adapter(self) -> str | None:
        """Name of the adapter that answers, with its content hash; None for the base model."""

    @property
    def sees_pictures(self) -> bool:
        """Whether the model reads pictures; else a picture is put to it in words."""

    async def complete(
        self, prompt: Prompt, sampling: Sampling, on_text: OnText | None = None
    ) -> list[str]:
        """What the model wrote after the prompt, unparsed, one text for each sample.

        Args:
            on_text: for a single sample; of several nothing is told before they are done.

        Raises:
            PictureError: the picture cannot be decoded.
            RewriteFailed: no answer to this query.
            RewriterDown: no answer to any.
        """

    async def check(self) -> None:
        """Raises :class:`RewriterDown` when the model cannot answer now; returns at once."""

    async def close(self) -> None:
        """Ends what was started, processes too."""
