"""Work that ends when its client hangs up: the engine has others to serve."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from models.client.wire import ErrorType
from service.errors import ApiError

Result = TypeVar("Result")


async def unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Does the work, and cancels it when the client has gone."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(hung_up(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ApiError(499, ErrorType.UNAVAILABLE, "the client has gone.")
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def hung_up(request: Request) -> None:
    """Returns when the client has gone; the body must have been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
