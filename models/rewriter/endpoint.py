"""EndpointRewriter: any server that speaks OpenAI's completions API, such as `vllm serve`."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from models.rewriter.protocol import OnText, Prompt, RewriteFailed, RewriterDown, Sampling
from models.rewriter.vision import IMAGE_PIXELS, image_url, messages, picture_to_show

Create = Callable[..., Awaitable[Any]]


class EndpointRewriter:
    """Sends the same prompts that :class:`models.rewriter.vllm.VLLMRewriter` is given.

    Args:
        url: base URL up to and with ``/v1``.
        model: name under which the server offers the model, or the adapter.
        api_key: sent as a bearer token when the server wants one.
        adapter: name to report when ``model`` is an adapter.
        sees_pictures: whether the model reads pictures; no server says so of its own.
        image_pixels: most pixels of a picture that is sent.
    """

    def __init__(
        self,
        url: str,
        model: str,
        api_key: str | None = None,
        adapter: str | None = None,
        *,
        sees_pictures: bool = False,
        image_pixels: int = IMAGE_PIXELS,
    ) -> None:
        from openai import AsyncOpenAI

        # The search has its own deadline and its own fallback: no retries behind its back.
        self._client = AsyncOpenAI(base_url=url, api_key=api_key or "none", max_retries=0)
        self._url = url
        self._model = model
        self._adapter = adapter
        self._sees_pictures = sees_pictures
        self._image_pixels = image_pixels

    @property
    def adapter(self) -> str | None:
        return self._adapter

    @property
    def sees_pictures(self) -> bool:
        return self._sees_pictures

    async def complete(
        self, prompt: Prompt, sampling: Sampling, on_text: OnText | None = None
    ) -> list[str]:
        from openai import APIConnectionError, OpenAIError

        create, wishes = await self._asked(prompt, sampling)
        try:
            if on_text and wishes["n"] == 1:
                return [await _streamed(create, wishes, on_text)]
            answer = await create(**wishes)
        except APIConnectionError as error:
            raise RewriterDown(f"{self._url} cannot be reached.") from error
        except OpenAIError as error:
            raise RewriteFailed(f"{self._url} answered: {error}") from error
        except ValueError as error:  # a stream that is not one
            raise RewriteFailed(f"{self._url} answered with what is no JSON.") from error
        return [_text(choice) for choice in answer.choices]

    async def _asked(self, prompt: Prompt, sampling: Sampling) -> tuple[Create, dict[str, Any]]:
        """Which of the server's two ways is asked, and what: a picture fits into a chat alone."""
        picture = prompt.picture
        if picture is None:
            wishes = {
                "prompt": prompt.task.prompt(prompt.query),
                **sampling.parameters(prompt.task),
            }
            return self._client.completions.create, {"model": self._model, **wishes}
        shown = await asyncio.to_thread(
            lambda: image_url(picture_to_show(picture, self._image_pixels))
        )
        wishes = {"messages": messages(shown, prompt.query), **sampling.parameters(prompt.form)}
        return self._client.chat.completions.create, {"model": self._model, **wishes}

    async def check(self) -> None:
        """Asks the server for its models, which every compatible one lists."""
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


async def _streamed(create: Create, wishes: dict[str, Any], on_text: OnText) -> str:
    text = ""
    async for part in await create(**wishes, stream=True):
        if part.choices:
            text += _text(part.choices[0])
            on_text(text)
    return text


def _text(choice: Any) -> str:
    """Of a completion, of a chat's answer, or of a part of one."""
    if hasattr(choice, "text"):
        return choice.text or ""
    said = choice.delta if hasattr(choice, "delta") else choice.message
    return said.content or ""
