"""The Rewriter protocol: turns a query into texts that the encoder understands."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from models.common.errors import GrapeError
from models.rewriter.chat import SERVERS_TEMPLATE
from models.rewriter.likelihood import Continuation
from models.rewriter.tasks import STOP, Task
from models.rewriter.vision import RATED, SeenTask, seen_task


class RewriteFailed(GrapeError):
    """The language model did not answer this query; the search uses the original one."""


class ScoresHidden(RewriteFailed):
    """The language model does not say how probable a given text is."""


class RewriterDown(RewriteFailed):
    """The language model is down and will not answer the next query either."""


class Sampling(NamedTuple):
    """How many rewrites are found, and how.

    With temperature 0 they are the most probable ones, and the same every time: one for each of the
    most probable first words. Otherwise they are drawn.
    """

    n: int = 1  # at most
    temperature: float = 0.0
    coverage: float = 1.0  # no further first words once they have this probability together

    @property
    def finds_several(self) -> bool:
        """Whether it asks for the most probable rewrites, and more than one of them."""
        return self.n > 1 and self.temperature == 0

    def parameters(self, prompt: "Prompt") -> dict[str, Any]:
        """Parameter names shared by vLLM and every OpenAI-compatible server."""
        return {
            "n": self.n if self.temperature > 0 else 1,
            "temperature": self.temperature,
            "max_tokens": prompt.form.max_tokens,
            "stop": [STOP],
            "seed": int.from_bytes(hashlib.sha256(prompt.query.encode()).digest()[:4]),
        }


MOST_REWRITES = 16
# `n: auto`. With more coverage R@10 gains little (docs/mixture.md).
AUTO = Sampling(MOST_REWRITES, coverage=0.7)


class Completion(NamedTuple):
    """One answer of the language model, unparsed."""

    text: str
    probability: float | None = None  # with its end, given the prompt; None if the model hides it


class Completions(NamedTuple):
    """The answers to one prompt."""

    answers: list[Completion]  # the most probable first, unless they are drawn
    unfinished: int = 0  # that were given up when the time was over


class WrittenTokens(NamedTuple):
    """The greedy answer to a prompt, token by token."""

    tokens: list[str]
    likely: list[dict[str, float]]  # the likeliest tokens at each place, with their probabilities


OnText = Callable[[str], None]  # called with the whole text so far whenever it grows


class Prompt(NamedTuple):
    """A query for the language model."""

    task: Task
    query: str
    picture: bytes | None = None  # an image file, only for a model that reads images
    candidates: tuple[bytes, ...] = ()  # image files to rate, likewise

    @property
    def chats(self) -> bool:
        """Whether it is a conversation that the server's own template presents."""
        return self.task.chat == SERVERS_TEMPLATE

    @property
    def form(self) -> Task | SeenTask:
        """The prompt template. A model that sees the image gets a different one."""
        if self.candidates:
            return RATED
        return self.task if self.picture is None else seen_task(self.query)


class Rewriter(Protocol):
    """Safe for concurrent requests. Cancelling a call stops the work for it."""

    @property
    def adapter(self) -> str | None:
        """Name of the adapter that answers, with its content hash. None for the base model."""

    @property
    def sees_pictures(self) -> bool:
        """Whether the model reads images. Otherwise an image is described to it in words."""

    async def complete(
        self,
        prompt: Prompt,
        sampling: Sampling,
        on_text: OnText | None = None,
        within_s: float | None = None,
    ) -> Completions:
        """The unparsed continuations of the prompt.

        Args:
            on_text: receives the text of the most probable one as it grows. Not called if several
                are drawn.
            within_s: seconds after which the answers that are finished are enough.

        Raises:
            PictureError: the image cannot be decoded.
            RewriteFailed: no answer to this query.
            RewriterDown: no answer to any query.
        """

    async def log_likelihoods(self, asked: Continuation) -> list[float]:
        """The log-probability that each prompt goes on with the text and ends its line.

        Raises:
            ScoresHidden: the model answers, but tells no such probabilities.
            RewriteFailed: no answer to this.
            RewriterDown: no answer to anything.
        """

    async def written_tokens(self, prompts: Sequence[Prompt]) -> list[WrittenTokens]:
        """The greedy answer to each prompt, with what else the model considered.

        Raises:
            ScoresHidden: the model answers, but does not say what it considered.
            RewriteFailed: no answer to this.
            RewriterDown: no answer to anything.
        """

    async def check(self) -> None:
        """Returns at once. Raises :class:`RewriterDown` if the model cannot answer now."""

    async def close(self) -> None:
        """Stops what was started, including processes."""
