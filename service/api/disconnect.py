"""Stops work whose client has hung up: other requests need the engine."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from models.client.wire import ErrorType
from service.errors import ApiError

Result = TypeVar("Result")


async def unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Runs the work, and cancels it if the client disconnects.

    Raises:
        ApiError: 499, the client has disconnected; nobody reads this answer.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(hung_up(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ApiError(499, ErrorType.UNAVAILABLE, "The client disconnected.")
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def hung_up(request: Request) -> None:
    """Returns when the client disconnects. The body must have been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
