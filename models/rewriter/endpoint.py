"""EndpointRewriter: any server with OpenAI's completions API, such as `vllm serve`."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

from models.rewriter.protocol import (
    Completion,
    Completions,
    OnText,
    Prompt,
    RewriteFailed,
    RewriterDown,
    Sampling,
)
from models.rewriter.tasks import STOP
from models.rewriter.vision import IMAGE_PIXELS, image_url, messages, picture_to_show

Create = Callable[..., Awaitable[Any]]
Word = tuple[str, float]  # with its log probability

_FEWER_WORDS = 5
_TOP_K = 64


class EndpointRewriter:
    """Sends the same prompts as :class:`models.rewriter.vllm.VLLMRewriter`.

    Args:
        url: base URL, including ``/v1``.
        model: the server's name for the model or the adapter.
        api_key: sent as a bearer token.
        sees_pictures: whether the model reads images. No server reports this.
        image_pixels: largest size of an image to send, in pixels.
    """

    adapter: str | None = None  # the server applies it under the name of the model

    def __init__(
        self,
        url: str,
        model: str,
        api_key: str | None = None,
        *,
        sees_pictures: bool = False,
        image_pixels: int = IMAGE_PIXELS,
    ) -> None:
        from openai import AsyncOpenAI

        # No retries: the search has a deadline and a fallback of its own.
        self._client = AsyncOpenAI(base_url=url, api_key=api_key or "none", max_retries=0)
        self._url = url
        self._model = model
        self._sees_pictures = sees_pictures
        self._image_pixels = image_pixels

    @property
    def sees_pictures(self) -> bool:
        return self._sees_pictures

    async def complete(
        self,
        prompt: Prompt,
        sampling: Sampling,
        on_text: OnText | None = None,
        within_s: float | None = None,
    ) -> Completions:
        """Asks for all rewrites at once, so that nothing is finished before ``within_s``."""
        from openai import APIConnectionError, OpenAIError

        try:
            if sampling.finds_several and prompt.picture is None:
                return await self._most_probable(prompt, sampling)
            return await self._drawn(prompt, sampling, on_text)
        except APIConnectionError as error:
            raise RewriterDown(f"{self._url} cannot be reached.") from error
        except OpenAIError as error:
            raise RewriteFailed(f"{self._url} answered: {error}") from error
        except ValueError as error:  # in a stream
            raise RewriteFailed(f"{self._url} did not answer with JSON.") from error

    async def _most_probable(self, prompt: Prompt, sampling: Sampling) -> Completions:
        """The most probable first words, each finished greedily; drawn if the server hides them."""
        from openai import BadRequestError

        parameters = {"model": self._model, **Sampling().parameters(prompt)}
        text = prompt.task.prompt(prompt.query)
        create = self._client.completions.create
        asked = {**parameters, "prompt": text, "max_tokens": 1, "logprobs": sampling.n}
        try:
            answer = await create(**asked)
        except BadRequestError:  # OpenAI's own API gives five at most
            answer = await create(**asked | {"logprobs": min(sampling.n, _FEWER_WORDS)})
        words = _first_words(answer.choices[0].logprobs, sampling.coverage)
        if not words:
            return await self._drawn(prompt, sampling._replace(temperature=1.0), None)
        prompts = [text + word for word, _ in words]
        finished = await create(**{**parameters, "prompt": prompts, "logprobs": 0})
        choices = sorted(finished.choices, key=lambda choice: choice.index)
        return Completions(
            [
                Completion(word + _text(choice), math.exp(logprob + _logprob(choice)))
                for (word, logprob), choice in zip(words, choices, strict=True)
            ]
        )

    async def _drawn(
        self, prompt: Prompt, sampling: Sampling, on_text: OnText | None
    ) -> Completions:
        """Drawn answers, or the greedy one."""
        from openai import BadRequestError

        create, parameters = await self._request(prompt, sampling)
        if on_text and parameters["n"] == 1:
            return Completions([Completion(await _stream(create, parameters, on_text))])
        # Most servers know top_k. It keeps words out that no good rewrite has.
        few = {"extra_body": {"top_k": _TOP_K}} if sampling.temperature > 0 else {}
        try:
            answer = await create(**parameters, **few)
        except BadRequestError:
            if not few:
                raise
            answer = await create(**parameters)
        return Completions([Completion(_text(choice)) for choice in answer.choices])

    async def _request(self, prompt: Prompt, sampling: Sampling) -> tuple[Create, dict[str, Any]]:
        """The API to call, with its parameters. Only the chat API takes an image."""
        parameters = {"model": self._model, **sampling.parameters(prompt)}
        picture = prompt.picture
        if picture is None:
            text = prompt.task.prompt(prompt.query)
            return self._client.completions.create, {"prompt": text, **parameters}
        shown = await asyncio.to_thread(
            lambda: image_url(picture_to_show(picture, self._image_pixels))
        )
        chat = messages(shown, prompt.query)
        return self._client.chat.completions.create, {"messages": chat, **parameters}

    async def check(self) -> None:
        """Asks the server for its models, which every compatible server lists."""
        from openai import OpenAIError

        try:
            offered = [model.id async for model in self._client.models.list(timeout=3)]
        except OpenAIError as error:
            raise RewriterDown(f"{self._url} does not answer ({error}).") from error
        if self._model not in offered:
            raise RewriterDown(
                f"{self._url} does not offer {self._model!r} but {', '.join(offered) or 'nothing'}."
            )

    async def close(self) -> None:
        await self._client.close()


async def _stream(create: Create, parameters: dict[str, Any], on_text: OnText) -> str:
    text = ""
    async for part in await create(**parameters, stream=True):
        if part.choices:
            text += _text(part.choices[0])
            on_text(text)
    return text


def _text(choice: Any) -> str:
    """Text of a completion, of a chat message, or of a streamed part of either."""
    if hasattr(choice, "text"):
        return choice.text or ""
    message = choice.delta if hasattr(choice, "delta") else choice.message
    return message.content or ""


def _first_words(logprobs: Any, coverage: float) -> list[Word]:
    """The most probable first words, until they have the coverage; none if the server hides them.

    A word that ends the answer begins no rewrite.
    """
    tops = getattr(logprobs, "top_logprobs", None) or [{}]
    words: list[Word] = []
    for word, logprob in sorted((tops[0] or {}).items(), key=lambda item: -item[1]):
        if sum(math.exp(before) for _, before in words) >= coverage:
            break
        if word.strip() and STOP not in word:
            words.append((word, logprob))
    return words


def _logprob(choice: Any) -> float:
    """Of everything that a completion says."""
    known: list[float | None] = getattr(choice.logprobs, "token_logprobs", None) or []
    return sum(logprob or 0.0 for logprob in known)
