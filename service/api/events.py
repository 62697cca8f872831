"""A search as server-sent events: the hits of the query as typed, the rewrite while it is being
written, then the result.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any

from fastapi import Request
from fastapi.sse import EventSourceResponse, format_sse_event
from pydantic import BaseModel

from models.client.wire import DirectHits, ErrorBody, ErrorType, PartialRewrite, SearchResult
from models.common.errors import IndexDown
from service.api.disconnect import hung_up
from service.errors import INDEX_DOWN, INTERNAL_ERROR

log = logging.getLogger("grape")

MEDIA_TYPE = EventSourceResponse.media_type

Tell = Callable[[DirectHits | PartialRewrite], None]
ToJson = Callable[[BaseModel], str]

# Without these, proxies cache the events or hold them back.
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
# JSON may contain these as they are, but FastAPI and some clients break lines at them.
_ESCAPED_LINE_BREAKS = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}
_EVENT_NAMES: dict[type[BaseModel], str] = {DirectHits: "direct", PartialRewrite: "rewrite"}


def wants_events(request: Request) -> bool:
    """Whether the client accepts events and does not accept JSON."""
    accepted = request.headers.get("accept", "").lower()
    return MEDIA_TYPE in accepted and "application/json" not in accepted


def event_stream(
    request: Request,
    search: Callable[[Tell], Coroutine[Any, Any, SearchResult]],
    admitted: AbstractContextManager[None],
    to_json: ToJson,
) -> EventSourceResponse:
    """The events ``direct``, ``rewrite`` (the text so far, several times), and ``result`` or
    ``error``.

    Args:
        search: starts the search, which passes on what it has before the result.
        admitted: counts the query as in flight for as long as the search runs.
        to_json: writes the result as the route does without events.
    """
    waiting: asyncio.Queue[BaseModel | None] = asyncio.Queue()
    admitted.__enter__()  # now, not at the first event: other requests are counted meanwhile
    work = asyncio.ensure_future(search(waiting.put_nowait))

    def ended(_: asyncio.Future[SearchResult]) -> None:
        admitted.__exit__(None, None, None)
        waiting.put_nowait(None)

    work.add_done_callback(ended)
    return EventSourceResponse(_events(request, work, waiting, to_json), headers=_HEADERS)


async def _events(
    request: Request,
    work: asyncio.Future[SearchResult],
    waiting: asyncio.Queue[BaseModel | None],
    to_json: ToJson,
) -> AsyncIterator[bytes]:
    request_id = request.state.request_id
    # A client that hangs up cancels the work, which in turn ends the wait.
    gone = asyncio.ensure_future(hung_up(request))
    gone.add_done_callback(lambda _: work.cancel())
    try:
        while (part := await waiting.get()) is not None:
            yield _event(_EVENT_NAMES[type(part)], part.model_dump_json())
        if not work.cancelled():
            yield _event("result", to_json(work.result()))
        elif not gone.done():
            yield _error_event("The search was stopped.", ErrorType.UNAVAILABLE, request_id)
    except IndexDown as error:
        log.warning("the index is down: %s", error)
        yield _error_event(INDEX_DOWN, ErrorType.UNAVAILABLE, request_id)
    except Exception:
        log.exception("a streamed search failed")
        yield _error_event(INTERNAL_ERROR, ErrorType.INTERNAL, request_id)
    finally:
        work.cancel()
        gone.cancel()


def _error_event(sentence: str, error_type: ErrorType, request_id: str) -> bytes:
    body = ErrorBody(error=sentence, error_type=error_type, request_id=request_id)
    return _event("error", body.model_dump_json())


def _event(name: str, json: str) -> bytes:
    return format_sse_event(event=name, data_str=json.translate(_ESCAPED_LINE_BREAKS))
