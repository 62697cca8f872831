"""What a running server searches with: for measuring exactly what is served."""

import contextlib
import hashlib
import os
import time
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from models.common.errors import GrapeError, InputError
from models.retriever.manifest import EncoderFingerprint
from models.search.options import Fusion

RewriteMode = Literal["auto", "always", "never"]
Shape = TypeVar("Shape", bound=BaseModel)

_ANSWER_WITHIN_S = 120.0
_COME_BACK_FOR_S = 600.0  # an overloaded server is asked again for so long
_AT_ONCE = 32  # queries in a request: half of what a server takes by default leaves room for others


class _Told(BaseModel):
    model_config = ConfigDict(extra="allow")  # a newer server may tell more


class _Index(_Told):
    encoder: EncoderFingerprint


class ServerInfo(_Told):
    """What ``/info`` tells."""

    llm: str
    adapter: str | None
    rewrite: RewriteMode
    fusion: Fusion
    index: _Index
    limits: dict[str, int]

    @property
    def revision(self) -> str:
        """Changes with all that the server says it is made of."""
        told = self.model_dump_json(exclude={"limits"})
        return hashlib.sha256(told.encode()).hexdigest()[:20]


class SearchedWith(BaseModel):
    """What the server did with one query before it searched."""

    status: Literal["rewritten", "kept", "fallback"]
    reason: str
    texts: list[str]
    parts: int = 1
    fusion: Fusion = "rewrite"  # what the server chose

    @property
    def rewrites(self) -> list[tuple[str, ...]]:
        """Each of one text, or the texts of a long query's parts as one."""
        if self.status != "rewritten":
            return []
        return [tuple(self.texts)] if self.parts > 1 else [(text,) for text in self.texts]


class _Result(BaseModel):
    rewrite: SearchedWith


class _Results(BaseModel):
    results: list[_Result]


class _Part(BaseModel):
    ready: bool
    reason: str


class _Readiness(BaseModel):
    encoder: _Part
    index: _Part
    rewriter: _Part


class Served:
    """A running server, asked what it would search with.

    Args:
        url: where `grape serve` listens.

    Raises:
        InputError: nothing listens there, it is no GRAPE server, or a part of it is not ready.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        key = os.environ.get("GRAPE_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else None
        self._http = httpx.Client(timeout=_ANSWER_WITHIN_S, headers=headers)
        self._check_ready()
        self.info = self._ask(ServerInfo, "GET", "/info")
        limits = self.info.limits
        self.at_once = min(_AT_ONCE, limits["max_queries"], limits["max_in_flight"])

    def searched_with(
        self, queries: Sequence[str], rewrite: RewriteMode, fusion: Fusion, n: int
    ) -> list[SearchedWith]:
        """Of at most ``at_once`` queries, in their order.

        ``/search`` and not ``/rewrite`` is asked, which rewrites what the gate would keep.

        Args:
            n: rewrites of each.

        Raises:
            InputError: the server refuses a query or ``n``, or is not ready any more.
            GrapeError: it failed.
        """
        body = {"query": list(queries), "k": 1, "rewrite": rewrite, "fusion": fusion, "n": n}
        answer = self._ask(_Results, "POST", "/search", body)
        found = [result.rewrite for result in answer.results]
        # A rewrite that failed belongs to what is served, a language model that died does not.
        if any(searched.status == "fallback" for searched in found):
            self._check_ready()
        return found

    def _check_ready(self) -> None:
        readiness = self._read(_Readiness, self._send("GET", "/readyz", None))
        for part in (readiness.encoder, readiness.index, readiness.rewriter):
            if not part.ready:
                raise InputError(
                    f"The server at {self._url} is not ready ({part.reason}): "
                    "try again when its /readyz says yes."
                )

    def _ask(
        self, shape: type[Shape], method: str, route: str, body: dict[str, Any] | None = None
    ) -> Shape:
        deadline = time.monotonic() + _COME_BACK_FOR_S
        while (answer := self._send(method, route, body)).status_code == 429:
            pause = _retry_after(answer)
            if time.monotonic() + pause > deadline:
                break
            time.sleep(pause)
        if answer.is_error:
            sentence = f"status {answer.status_code}"
            with contextlib.suppress(ValueError, KeyError, TypeError):
                sentence = answer.json()["error"]
            refused = answer.is_client_error and answer.status_code != 429
            raise (InputError if refused else GrapeError)(f"{self._url}{route}: {sentence}")
        return self._read(shape, answer)

    def _send(self, method: str, route: str, body: dict[str, Any] | None) -> httpx.Response:
        try:
            return self._http.request(method, self._url + route, json=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise InputError(
                f"{self._url} cannot be reached ({error}): start a server with `grape serve`, or "
                "name the address of one that runs."
            ) from error

    def _read(self, shape: type[Shape], answer: httpx.Response) -> Shape:
        try:
            return shape.model_validate_json(answer.content)
        except ValidationError as error:
            raise InputError(
                f"{answer.url} did not answer as a GRAPE server of this version does; is it the "
                "right address?"
            ) from error


def _retry_after(answer: httpx.Response) -> float:
    """Seconds; a proxy may send a date instead, which is not worth reading."""
    try:
        return max(float(answer.headers["Retry-After"]), 0.1)
    except (KeyError, ValueError):
        return 1.0
