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

from service.disconnect import hung_up
from service.errors import ErrorBody, ErrorType
from service.schemas import DirectHits, PartialRewrite
from service.search import Searcher, SearchOptions

log = logging.getLogger("grape")

MEDIA_TYPE = "text/event-stream"
_NAMES: dict[type[BaseModel], str] = {DirectHits: "direct", PartialRewrite: "rewrite"}


def wants_events(request: Request) -> bool:
    """Whether the client asked for events and not for one answer."""
    return MEDIA_TYPE in request.headers.get("accept", "")


def event_stream(
    request: Request,
    searcher: Searcher,
    query: str,
    options: SearchOptions,
    admitted: AbstractContextManager[None],
    to_json: Callable[[BaseModel], str],
) -> StreamingResponse:
    """The events ``direct``, ``rewrite`` (the text so far, several times) and ``result``.

    Args:
        to_json: writes the result as the route would without events.
    """
    request_id = request.state.request_id

    async def events() -> AsyncIterator[bytes]:
        waiting: asyncio.Queue[BaseModel | None] = asyncio.Queue()
        work = asyncio.ensure_future(
            searcher.search(query, options, request_id, waiting.put_nowait)
        )
        work.add_done_callback(lambda _: waiting.put_nowait(None))
        # Whoever hangs up ends the work, which in turn ends the waiting.
        gone = asyncio.ensure_future(hung_up(request))
        gone.add_done_callback(lambda _: work.cancel())
        try:
            with admitted:
                while (part := await waiting.get()) is not None:
                    yield _event(_NAMES[type(part)], part.model_dump_json())
                if not work.cancelled():
                    yield _event("result", to_json(work.result()))
        except Exception:
            log.exception("a streamed search failed")
            problem = ErrorBody(
                error="Internal error; the log says more.",
                error_type=ErrorType.INTERNAL,
                request_id=request_id,
            )
            yield _event("error", problem.model_dump_json())
        finally:
            work.cancel()
            gone.cancel()

    # Proxies would gather the events otherwise.
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(events(), media_type=MEDIA_TYPE, headers=headers)


def _event(name: str, json: str) -> bytes:
    """JSON has no line breaks of its own; fastapi's formatter would break at U+2028 too."""
    return f"event: {name}\ndata: {json}\n\n".encode()
