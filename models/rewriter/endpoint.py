"""EndpointRewriter: any server with OpenAI's completions API, such as `vllm serve`."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from models.rewriter.protocol import OnText, Prompt, RewriteFailed, RewriterDown, Sampling
from models.rewriter.vision import IMAGE_PIXELS, image_url, messages, picture_to_show

Create = Callable[..., Awaitable[Any]]


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
        self, prompt: Prompt, sampling: Sampling, on_text: OnText | None = None
    ) -> list[str]:
        from openai import APIConnectionError, OpenAIError

        create, parameters = await self._request(prompt, sampling)
        try:
            if on_text and parameters["n"] == 1:
                return [await _stream(create, parameters, on_text)]
            answer = await create(**parameters)
        except APIConnectionError as error:
            raise RewriterDown(f"{self._url} cannot be reached.") from error
        except OpenAIError as error:
            raise RewriteFailed(f"{self._url} answered: {error}") from error
        except ValueError as error:  # in a stream
            raise RewriteFailed(f"{self._url} did not answer with JSON.") from error
        return [_text(choice) for choice in answer.choices]

    async def _request(self, prompt: Prompt, sampling: Sampling) -> tuple[Create, dict[str, Any]]:
        """The API to call, with its parameters. Only the chat API takes an image."""
        parameters = {"model": self._model, **sampling.parameters(prompt.form)}
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
