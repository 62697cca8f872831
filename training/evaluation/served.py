"""Asks a running server what it searches with, to measure exactly what is served."""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from models.client import Client, ClientError
from models.client.retry import OVERLOADED, RetryPolicy
from models.client.wire import Info, SearchedTexts, Status
from models.common.errors import GrapeError, InputError
from models.retriever.manifest import EncoderFingerprint
from models.rewriter.protocol import MOST_REWRITES
from models.search.fusion import Fusing
from models.search.mixture import Component, components
from models.search.options import Fusion, RewriteCount, RewriteMode
from models.search.searches import Search, rewrite_searches, searches_for

_OVERLOADED_FOR_S = 600.0  # how long an overloaded server is asked again
# Queries in a request. With more than an engine of 64 rewrites has room for, `n: auto` finds fewer
# rewrites, and these would be measured instead.
_AT_ONCE = 64 // MOST_REWRITES


class _ServedIndex(BaseModel):
    model_config = ConfigDict(extra="allow")

    encoder: EncoderFingerprint


class ServerInfo(Info):
    """The answer to ``/info``, with the encoder of the index as a type."""

    index: _ServedIndex  # type: ignore[assignment]

    @property
    def revision(self) -> str:
        """A hash of everything that the server reports about itself except its limits."""
        reported = self.model_dump_json(exclude={"limits"})
        return hashlib.sha256(reported.encode()).hexdigest()[:20]


_AS_TYPED = Fusing("original", tau=1.0)


@dataclass(frozen=True)
class SearchedWith:
    """What the server did with one query before it searched."""

    status: Status
    reason: str
    texts: list[str]
    parts: int = 1
    how: Fusing = _AS_TYPED  # the server's choice, except for a mixture's weights
    probabilities: Sequence[float | None] = ()  # of each text
    query_weight: float = 0.0  # of the query as typed in a mixture

    @classmethod
    def of(cls, texts: SearchedTexts) -> "SearchedWith":
        return cls(
            texts.status,
            texts.reason,
            texts.texts,
            texts.parts,
            Fusing(texts.fusion, texts.tau),
            texts.probabilities,
            texts.query_weight,
        )

    @property
    def rewrites(self) -> list[tuple[str, ...]]:
        """One text for each rewrite. The texts of a long query's parts are one rewrite."""
        if self.status != "rewritten":
            return []
        return [tuple(self.texts)] if self.parts > 1 else [(text,) for text in self.texts]

    def searches(self, typed: Search) -> tuple[list[Search], Fusing]:
        """The searches that the server made, and how it fused them."""
        if self.how.fusion != "mixture":
            return searches_for(self.how.fusion, typed, self.rewrites), self.how
        known = self.probabilities[:1] if self.parts > 1 else self.probabilities
        every = zip(rewrite_searches(typed, self.rewrites), known, strict=True)
        # The query's weight holds that of a rewrite that repeats it.
        written = [(search, probability) for search, probability in every if search is not typed]
        mixture = [Component(typed, self.query_weight)]
        if written:
            searches, probabilities = zip(*written, strict=True)
            mixture = components(searches, probabilities, mixture)
        weights = tuple(weight for _, weight in mixture)
        return [search for search, _ in mixture], self.how._replace(weights=weights)


class Served:
    """A running server that reports what it would search with.

    Args:
        url: the server's URL.

    Raises:
        InputError: the server cannot be reached, is not a GRAPE server, or is not ready.
    """

    def __init__(self, url: str) -> None:
        try:
            self._client = Client(url)
        except ClientError as error:
            raise InputError(error.message) from error
        # A server that stops during a measurement is reported at once, not waited for.
        self._client.policy = RetryPolicy(sys.maxsize, _OVERLOADED_FOR_S, overload_only=True)
        self._check_ready()
        self.info = self._read_info()
        limits = self.info.limits
        self.at_once = min(_AT_ONCE, limits["max_queries"], limits["max_in_flight"])

    def searched_with(
        self, queries: Sequence[str], rewrite: RewriteMode, fusion: Fusion, n: RewriteCount
    ) -> list[SearchedWith]:
        """Returns what the server searches with for at most ``at_once`` queries, in order.

        This calls ``/search``, because ``/rewrite`` also rewrites what the gate would keep.

        Args:
            n: rewrites of each query.

        Raises:
            InputError: the server rejects a query or ``n``, or is no longer ready.
            GrapeError: the server failed.
        """
        try:
            results = self._client.search_many(
                queries, self.at_once, k=1, rewrite=rewrite, fusion=fusion, n=n
            )
        except ClientError as error:
            raise self._reported(error, "/search") from error
        found = [SearchedWith.of(result.rewrite) for result in results]
        # One failed rewrite is part of what is served; a dead language model is not.
        if any(searched.status == "fallback" for searched in found):
            self._check_ready()
        return found

    def _check_ready(self) -> None:
        try:
            readiness = self._client.ready()
        except ClientError as error:
            raise InputError(error.message) from error
        for part in (readiness.encoder, readiness.index, readiness.rewriter):
            if not part.ready:
                raise InputError(
                    f"The server at {self._client.url} is not ready ({part.reason}): "
                    "try again when its /readyz says that it is."
                )

    def _read_info(self) -> ServerInfo:
        try:
            return ServerInfo.model_validate(self._client.info().model_dump())
        except ClientError as error:
            raise self._reported(error, "/info") from error
        except ValidationError as error:
            raise InputError(
                f"The server at {self._client.url} does not report the encoder of its index; is "
                "it of this version?"
            ) from error

    def _reported(self, error: ClientError, route: str) -> GrapeError:
        """Overload and a server's own failure are failed work, anything else is bad input."""
        failed = error.status is not None and (error.status == OVERLOADED or error.status >= 500)
        where = f"{self._client.url}{route}: " if error.request_id else ""
        return (GrapeError if failed else InputError)(f"{where}{error.message}")
