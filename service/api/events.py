"""A search as server-sent events: what the query finds as typed at once, the rewrite while it is
written, then the answer.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager

from fastapi import Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from models.client.wire import DirectHits, ErrorBody, ErrorType, PartialRewrite, SearchResult
from models.search.query import Query
from service.api.disconnect import hung_up
from service.search import Searcher, SearchOptions

log = logging.getLogger("grape")

MEDIA_TYPE = "text/event-stream"
_NAMES: dict[type[BaseModel], str] = {DirectHits: "direct", PartialRewrite: "rewrite"}


def wants_events(request: Request) -> bool:
    """Whether the client asked for events and would not take JSON as well."""
    accepted = request.headers.get("accept", "").lower()
    return MEDIA_TYPE in accepted and "application/json" not in accepted


def event_stream(
    request: Request,
    searcher: Searcher,
    query: Query,
    options: SearchOptions,
    admitted: AbstractContextManager[None],
    to_json: Callable[[BaseModel], str],
) -> StreamingResponse:
    """The events ``direct``, ``rewrite`` (the text so far, several times) and ``result``.

    Args:
        to_json: writes the result as the route would without events.
    """
    request_id = request.state.request_id
    waiting: asyncio.Queue[BaseModel | None] = asyncio.Queue()
    admitted.__enter__()  # now, not when the first event is asked for: others are counted meanwhile
    work = asyncio.ensure_future(searcher.search(query, options, request_id, waiting.put_nowait))

    def ended(_: asyncio.Future[SearchResult]) -> None:
        admitted.__exit__(None, None, None)
        waiting.put_nowait(None)

    work.add_done_callback(ended)

    async def events() -> AsyncIterator[bytes]:
        # Whoever hangs up ends the work, which in turn ends the waiting.
        gone = asyncio.ensure_future(hung_up(request))
        gone.add_done_callback(lambda _: work.cancel())
        try:
            while (part := await waiting.get()) is not None:
                yield _event(_NAMES[type(part)], part.model_dump_json())
            if not work.cancelled():
                yield _event("result", to_json(work.result()))
            elif not gone.done():
                yield _problem("The search was stopped.", ErrorType.UNAVAILABLE, request_id)
        except Exception:
            log.exception("a streamed search failed")
            yield _problem("Internal error; the log says more.", ErrorType.INTERNAL, request_id)
        finally:
            work.cancel()
            gone.cancel()

    # Proxies would gather the events otherwise.
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(events(), media_type=MEDIA_TYPE, headers=headers)


def _problem(sentence: str, kind: ErrorType, request_id: str) -> bytes:
    body = ErrorBody(error=sentence, error_type=kind, request_id=request_id)
    return _event("error", body.model_dump_json())


def _event(name: str, json: str) -> bytes:
    """JSON has no line breaks of its own, but readers that break lines at these as well exist."""
    for character in "\x85\u2028\u2029":
        json = json.replace(character, f"\\u{ord(character):04x}")
    return f"event: {name}\ndata: {json}\n\n".encode()
