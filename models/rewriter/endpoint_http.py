"""Requests to a server with OpenAI's API. Whatever comes back is bounded and validated."""

import codecs
import contextlib
import json
import math
import re
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import httpx
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from models.common.errors import InputError
from models.common.proxies import is_on_this_machine, unusable_proxy_told
from models.rewriter.protocol import RewriteFailed, RewriterDown

MAX_BYTES = 4 * 2**20  # 16 streamed rewrites with their probabilities take 0.2 MB
_QUOTED_CHARS = 200  # of what the server says instead of a completion
_TIMEOUT = httpx.Timeout(600, connect=5)  # a search has a deadline of its own
_LIMITS = httpx.Limits(max_connections=1000, max_keepalive_connections=100)
_UNREACHABLE = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)


class Refused(RewriteFailed):
    """The server answered with an error status."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status

    @property
    def blames_parameters(self) -> bool:
        """Whether the same request with fewer parameters may do."""
        return self.status in (400, 422)


def _log_probability(value: float) -> float:
    if math.isnan(value):
        raise ValueError("not a number")
    return min(value, 0.0)  # rounding may put it above


LogProbability = Annotated[float, AfterValidator(_log_probability)]


class ChatOption(BaseModel):
    token: str
    logprob: LogProbability


class ChatToken(ChatOption):
    top_logprobs: list[ChatOption] = []


class Logprobs(BaseModel):
    tokens: list[str] | None = None
    token_logprobs: list[LogProbability | None] | None = None
    top_logprobs: list[dict[str, LogProbability] | None] | None = None
    content: list[ChatToken] | None = None  # what a chat has instead


class Message(BaseModel):
    content: str | None = None


class Choice(BaseModel):
    """A completion, an answer of a chat, or a streamed part of either."""

    index: int = 0
    text: str | None = None
    message: Message | None = None
    delta: Message | None = None
    logprobs: Logprobs | None = None
    finish_reason: str | None = None

    @property
    def said(self) -> str:
        chat = self.message or self.delta
        return self.text or (chat and chat.content) or ""

    @property
    def logprob(self) -> float:
        """Of everything that it says."""
        known = self.logprobs.token_logprobs if self.logprobs else None
        return sum(logprob or 0.0 for logprob in known or ())


class _Part(BaseModel):
    choices: list[Choice]
    error: Any = None


class _Answer(_Part):
    choices: list[Choice] = Field(min_length=1)


class _Model(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Model]


class EndpointServer:
    """One server.

    Args:
        url: base URL, including ``/v1``.
        api_key: sent as a bearer token.
        transport: an httpx transport, for tests.

    Raises:
        InputError: the URL or the key cannot be one, or the environment's proxy cannot be used.
    """

    def __init__(
        self, url: str, api_key: str | None, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.url = _checked(url)
        key = (api_key or "none").strip()
        if not (key.isascii() and key.isprintable()):
            raise InputError("--llm-api-key contains characters that no key has.")
        with unusable_proxy_told():
            if transport is None and is_on_this_machine(self.url):
                transport = httpx.AsyncHTTPTransport(limits=_LIMITS)
            self._http = httpx.AsyncClient(
                transport=transport,
                headers={"Authorization": f"Bearer {key}", "Accept-Encoding": "identity"},
                timeout=_TIMEOUT,
                limits=_LIMITS,
            )

    async def close(self) -> None:
        await self._http.aclose()

    async def models(self) -> list[str]:
        """Names of the models that it offers."""
        async with self._asked("GET", "/models") as response:
            content = await self._content(response)
        try:
            listed = _Models.model_validate_json(_without_bom(content))
        except ValidationError as error:
            raise self._not("a list of models", content) from error
        return [model.id for model in listed.data]

    async def complete(self, route: str, body: dict[str, Any]) -> list[Choice]:
        """The completions, by their index."""
        async with self._asked("POST", route, body) as response:
            return self._choices(await self._content(response))

    async def stream(
        self, route: str, body: dict[str, Any], on_part: Callable[[Choice], None]
    ) -> None:
        """Calls ``on_part`` with each part; once each with the whole if it does not stream."""
        async with self._asked("POST", route, {**body, "stream": True}) as response:
            if "text/event-stream" not in response.headers.get("content-type", ""):
                for choice in self._choices(await self._content(response)):
                    on_part(choice)
                return
            async for data in self._events(response):
                for choice in self._parsed(_Part, data).choices:
                    on_part(choice)

    @contextlib.asynccontextmanager
    async def _asked(
        self, method: str, route: str, body: dict[str, Any] | None = None
    ) -> AsyncIterator[httpx.Response]:
        # json.dumps escapes what UTF-8 cannot encode.
        content = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json"} if body else {}
        address = self.url + route
        try:
            async with self._http.stream(
                method, address, content=content, headers=headers
            ) as response:
                if not response.is_success:
                    told = quoted(await self._content(response))
                    status = response.status_code
                    raise Refused(status, f"{self.url} answered {status}{told and f': {told}'}")
                yield response
        except _UNREACHABLE as error:
            raise RewriterDown(f"{self.url} cannot be reached.") from error
        except httpx.HTTPError as error:
            what = str(error) or type(error).__name__
            raise RewriteFailed(f"{self.url} did not answer as a server should: {what}") from error

    async def _content(self, response: httpx.Response) -> bytes:
        content = bytearray()
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > MAX_BYTES:
                raise self._too_long()
        return bytes(content)

    async def _events(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """The data of each server-sent event, up to ``[DONE]``."""
        rest, length = b"", 0
        async for chunk in response.aiter_bytes():
            length += len(chunk)
            if length > MAX_BYTES:
                raise self._too_long()
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if (data := _data(line)) == b"[DONE]":
                    return
                if data:
                    yield data
        if (data := _data(rest)) and data != b"[DONE]":
            yield data

    def _choices(self, content: bytes) -> list[Choice]:
        answer = self._parsed(_Answer, content)
        return sorted(answer.choices, key=lambda choice: choice.index)

    def _parsed(self, shape: type[_Part], content: bytes) -> _Part:
        try:
            answer = shape.model_validate_json(_without_bom(content))
        except ValidationError as error:
            raise self._not("a completion", content) from error
        if answer.error:
            raise self._not("a completion", content)
        return answer

    def _not(self, wanted: str, content: bytes) -> RewriteFailed:
        told = quoted(content) or "an empty body"
        return RewriteFailed(f"{self.url} did not answer with {wanted}: {told}")

    def _too_long(self) -> RewriteFailed:
        return RewriteFailed(f"{self.url} answered with more than {MAX_BYTES // 2**20} MiB")


def quoted(content: bytes) -> str:
    """What an answer that is no completion says: its message, in a line of bounded length."""
    text = _without_bom(content)[:10_000].decode(errors="replace")
    with contextlib.suppress(ValueError, RecursionError):
        text = _message(json.loads(text)) or text
    text = re.sub(r"(?is)<(script|style)\b.*?</\1>|<[^<>]*>", " ", text)
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    line = " ".join(printable.split())
    return line if len(line) <= _QUOTED_CHARS else line[:_QUOTED_CHARS].rstrip() + "…"


def _message(value: Any) -> str:
    """The first text under one of the names that servers give to their messages."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return next(filter(None, map(_message, value)), "")
    if isinstance(value, dict):
        names = ("error", "message", "detail", "msg", "error_message", "errors", "choices")
        return next(filter(None, (_message(value.get(name)) for name in names)), "")
    return ""


def _data(line: bytes) -> bytes:
    line = _without_bom(line).strip()
    return line.removeprefix(b"data:").strip() if line.startswith(b"data:") else b""


def _without_bom(content: bytes) -> bytes:
    return content.removeprefix(codecs.BOM_UTF8)


def _checked(url: str) -> str:
    try:
        parsed = httpx.URL(url.strip())
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InputError(
            f"--llm-endpoint: {url!r} is not an address; write it like http://127.0.0.1:8001/v1."
        )
    return url.strip().rstrip("/")
