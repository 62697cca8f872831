"""EndpointRewriter: any server that speaks OpenAI's completions API, such as `vllm serve`."""

from typing import Any

from models.rewriter import OnText, RewriteFailed, RewriterDown, Sampling
from models.tasks import Task


class EndpointRewriter:
    """Sends the same prompts that :class:`models.rewriter_vllm.VLLMRewriter` is given.

    Args:
        url: base URL up to and with ``/v1``.
        model: name under which the server offers the model, or the adapter.
        api_key: sent as a bearer token when the server wants one.
        adapter: name to report when ``model`` is an adapter.
    """

    def __init__(
        self, url: str, model: str, api_key: str | None = None, adapter: str | None = None
    ) -> None:
        from openai import AsyncOpenAI

        # The search has its own deadline and its own fallback: no retries behind its back.
        self._client = AsyncOpenAI(base_url=url, api_key=api_key or "none", max_retries=0)
        self._url = url
        self._model = model
        self._adapter = adapter

    @property
    def adapter(self) -> str | None:
        return self._adapter

    @property
    def sees_pictures(self) -> bool:
        return False

    async def complete(
        self,
        task: Task,
        query: str,
        sampling: Sampling,
        on_text: OnText | None = None,
        picture: bytes | None = None,
    ) -> list[str]:
        from openai import APIConnectionError, OpenAIError

        wishes = {"model": self._model, "prompt": task.prompt(query), **sampling.parameters(task)}
        try:
            if on_text and wishes["n"] == 1:
                return [await self._streamed(wishes, on_text)]
            answer = await self._client.completions.create(**wishes)
        except APIConnectionError as error:
            raise RewriterDown(f"{self._url} cannot be reached.") from error
        except OpenAIError as error:
            raise RewriteFailed(f"{self._url} answered: {error}") from error
        except ValueError as error:  # a stream that is not one
            raise RewriteFailed(f"{self._url} answered with what is no JSON.") from error
        return [choice.text for choice in answer.choices]

    async def _streamed(self, wishes: dict[str, Any], on_text: OnText) -> str:
        text = ""
        async for part in await self._client.completions.create(**wishes, stream=True):
            if part.choices:
                text += part.choices[0].text or ""
                on_text(text)
        return text

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
