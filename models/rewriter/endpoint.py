"""EndpointRewriter: any server with OpenAI's completions API, such as `vllm serve`."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx

from models.rewriter.chat import SERVERS_TEMPLATE
from models.rewriter.endpoint_http import Choice, EndpointServer, Refused
from models.rewriter.endpoint_scores import (
    Word,
    echoed_log_likelihoods,
    endpoint_tokens,
    likely_words,
    tells_scores,
)
from models.rewriter.endpoint_stream import Heard, stream_until
from models.rewriter.likelihood import Continuation
from models.rewriter.protocol import (
    Completion,
    Completions,
    OnText,
    Prompt,
    RewriteFailed,
    RewriterDown,
    Sampling,
    ScoresHidden,
    WrittenTokens,
)
from models.rewriter.vision import IMAGE_PIXELS, image_url, messages, picture_to_show

_FEWER_WORDS = 5  # OpenAI's own API gives no more
_TOP_K = 64
_CHAT_TOKENS = 4  # times as many tokens: a chat may greet, and explain
_NO_SUCH_ROUTE = (404, 405, 501)
_CHECK_S = 3.0
_BUSY = 429  # but up
_NAMED = 5  # of the models that a server offers


class EndpointRewriter:
    """Sends the same prompts as :class:`models.rewriter.vllm.VLLMRewriter`.

    Remembers which parameters the server refuses, and whether it hides probabilities.

    Args:
        url: base URL, including ``/v1``.
        model: the server's name for the model or the adapter.
        api_key: sent as a bearer token.
        sees_pictures: whether the model reads images. No server reports this.
        image_pixels: largest size of an image to send, in pixels.
        may_chat: whether a server without plain completions is asked by chat.
        transport: an httpx transport, for tests.

    Raises:
        InputError: the URL or the key cannot be one, or the environment's proxy cannot be used.
    """

    adapter: str | None = None  # the server applies it under the name of the model

    def __init__(  # noqa: PLR0913
        self,
        url: str,
        model: str,
        api_key: str | None = None,
        *,
        sees_pictures: bool = False,
        image_pixels: int = IMAGE_PIXELS,
        may_chat: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._server = EndpointServer(url, api_key, transport)
        self._model = model
        self._sees_pictures = sees_pictures
        self._image_pixels = image_pixels
        self._hides_words = False
        self._hides_scores: ScoresHidden | None = None
        self._few_words = False
        self._knows_extras = True
        self._may_chat = may_chat
        self._only_chats = False
        self._streams_several = True

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
        if self._only_chats:
            prompt = _as_chat(prompt)
        try:
            return await self._completed(prompt, sampling, on_text, within_s)
        except Refused as error:
            asked_plainly = prompt.picture is None and not prompt.chats
            if not (self._may_chat and asked_plainly and error.status in _NO_SUCH_ROUTE):
                raise
        found = await self._completed(_as_chat(prompt), sampling, on_text, within_s)
        self._only_chats = True
        return found

    async def _completed(
        self, prompt: Prompt, sampling: Sampling, on_text: OnText | None, within_s: float | None
    ) -> Completions:
        if sampling.finds_several and prompt.chats:  # words cannot be put behind a chat's end
            sampling = sampling._replace(temperature=1.0)
        elif sampling.finds_several and prompt.picture is None:
            return await self._most_probable(prompt, sampling, within_s)
        return await self._drawn(prompt, sampling, on_text, within_s)

    async def _most_probable(
        self, prompt: Prompt, sampling: Sampling, within_s: float | None
    ) -> Completions:
        """The most probable first words, each finished greedily; drawn if the server hides them."""
        text = prompt.task.prompt(prompt.query)
        parameters = {"model": self._model, **Sampling().parameters(prompt)}
        words = [] if self._hides_words else await self._first_words(text, parameters, sampling)
        if words and (found := await self._finished(text, words, parameters, within_s)):
            return found
        drawn = await self._drawn(prompt, sampling._replace(temperature=1.0), None, within_s)
        if words != []:  # it refused to tell them, or to finish them
            self._hides_words = True
        return drawn

    async def _finished(
        self, text: str, words: list[Word], parameters: dict[str, Any], within_s: float | None
    ) -> Completions | None:
        """Each first word with its greedy end; None if the server does not take several prompts."""
        prompts = [text + word for word, _ in words]
        try:
            ends, left = await self._several(
                "/completions", {**parameters, "prompt": prompts, "logprobs": 0}, within_s
            )
        except Refused as error:
            if not error.blames_parameters:
                raise
            return None
        if len(ends) + left < len(words):
            return None
        return Completions(
            [
                Completion(words[place][0] + end.text, math.exp(words[place][1] + end.logprob))
                for place, end in ends.items()
            ],
            left,
        )

    async def _first_words(
        self, text: str, parameters: dict[str, Any], sampling: Sampling
    ) -> list[Word] | None:
        """The most probable first words; none if the server hides them, None if it refuses."""
        fewer = min(sampling.n, _FEWER_WORDS)
        for most in (fewer,) if self._few_words else dict.fromkeys((sampling.n, fewer)):
            asked = {**parameters, "prompt": text, "max_tokens": 1, "logprobs": most}
            try:
                first, *_ = await self._server.complete("/completions", asked)
            except Refused as error:
                if not error.blames_parameters:
                    raise
                continue
            self._few_words = most < sampling.n
            self._hides_words = not (first.logprobs and first.logprobs.top_logprobs)
            return likely_words(first.logprobs, sampling.coverage)
        return None

    async def _drawn(
        self, prompt: Prompt, sampling: Sampling, on_text: OnText | None, within_s: float | None
    ) -> Completions:
        """Drawn answers, or the greedy one."""
        route, parameters = await self._request(prompt, sampling)

        async def ask(body: dict[str, Any]) -> Completions:
            if parameters["n"] == 1 and on_text:
                return Completions([Completion(await self._streamed(route, body, on_text))])
            return await self._answers(route, body, within_s)

        extras = self._extras(prompt, sampling)
        if not extras:
            return await ask(parameters)
        try:
            return await ask(parameters | extras)
        except Refused as error:
            if not error.blames_parameters:
                raise
        answers = await ask(parameters)
        self._knows_extras = False
        return answers

    def _extras(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        """Parameters that most servers know, and some refuse."""
        if not self._knows_extras:
            return {}
        # top_k keeps words out that no good rewrite has.
        extras: dict[str, Any] = {"top_k": _TOP_K} if sampling.temperature > 0 else {}
        if prompt.chats:
            extras["chat_template_kwargs"] = {"enable_thinking": False}
        return extras

    async def _answers(
        self, route: str, body: dict[str, Any], within_s: float | None
    ) -> Completions:
        finished, left = await self._several(route, body, within_s)
        return Completions([Completion(own.text) for own in finished.values()], left)

    async def _several(
        self, route: str, body: dict[str, Any], within_s: float | None
    ) -> tuple[dict[int, Heard], int]:
        """The completions by their place, and how many were given up after ``within_s``."""
        prompts = body.get("prompt")
        wanted = len(prompts) if isinstance(prompts, list) else body["n"]
        if wanted > 1 and within_s is not None and self._streams_several:
            try:
                return await stream_until(self._server, route, body, wanted, within_s)
            except Refused as error:
                if not error.blames_parameters:
                    raise
            choices = await self._server.complete(route, body)
            self._streams_several = False
        else:
            choices = await self._server.complete(route, body)
        return {place: Heard.of(choice) for place, choice in enumerate(choices[:wanted])}, 0

    async def _request(self, prompt: Prompt, sampling: Sampling) -> tuple[str, dict[str, Any]]:
        """The route to ask, with its parameters. Only the chat API takes an image."""
        parameters = {"model": self._model, **sampling.parameters(prompt)}
        picture = prompt.picture
        if picture is None and prompt.chats:
            del parameters["stop"]  # an answer may begin with a line that is none
            parameters["max_tokens"] *= _CHAT_TOKENS
            messages_ = prompt.task.messages(prompt.query)
            return "/chat/completions", {"messages": messages_, **parameters}
        if picture is None:
            return "/completions", {"prompt": prompt.task.prompt(prompt.query), **parameters}
        shown = await asyncio.to_thread(
            lambda: image_url(picture_to_show(picture, self._image_pixels))
        )
        return "/chat/completions", {"messages": messages(shown, prompt.query), **parameters}

    async def _streamed(self, route: str, body: dict[str, Any], on_text: OnText) -> str:
        text = ""

        def on_part(choice: Choice) -> None:
            nonlocal text
            text += choice.said
            on_text(text)

        await self._server.stream(route, body, on_part)
        return text

    async def log_likelihoods(self, asked: Continuation) -> list[float]:
        if self._hides_scores:
            raise self._hides_scores
        try:
            return await echoed_log_likelihoods(self._server, self._model, asked)
        except ScoresHidden as error:
            # A server that takes a short prompt refused this one, which may be too long for it.
            if await tells_scores(self._server, self._model):
                raise RewriteFailed(str(error.__cause__ or error)) from error
            self._hides_scores = error
            raise

    async def written_tokens(self, prompts: Sequence[Prompt]) -> list[WrittenTokens]:
        return await endpoint_tokens(self._server, self._model, prompts)

    async def check(self) -> None:
        """Asks the server for its models. One that lists none is taken at its word."""
        url = self._server.url
        try:
            async with asyncio.timeout(_CHECK_S):
                offered = await self._server.models()
        except Refused as error:
            if error.status in (*_NO_SUCH_ROUTE, _BUSY):
                return
            raise RewriterDown(str(error)) from error
        except TimeoutError as error:
            raise RewriterDown(f"{url} does not answer within {_CHECK_S:g} s.") from error
        except RewriteFailed as error:
            raise RewriterDown(str(error)) from error
        if self._model not in offered:
            named = ", ".join(offered[:_NAMED]) or "nothing"
            more = f" and {len(offered) - _NAMED} more" if len(offered) > _NAMED else ""
            raise RewriterDown(f"{url} does not offer {self._model!r} but {named}{more}.")

    async def close(self) -> None:
        await self._server.close()


def _as_chat(prompt: Prompt) -> Prompt:
    return prompt._replace(task=replace(prompt.task, chat=SERVERS_TEMPLATE))
