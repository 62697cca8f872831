"""The tests' application on a real socket, for clients that cannot call it in process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import uvicorn

from service.api.protocol import HttpProtocol


@contextlib.asynccontextmanager
async def listening(client: httpx.AsyncClient) -> AsyncIterator[str]:
    """Serves the running application of ``client``; yields its address."""
    transport = client._transport
    assert isinstance(transport, httpx.ASGITransport)
    # The fixture has started the application already, so uvicorn must not run its lifespan.
    config = uvicorn.Config(
        transport.app, port=0, lifespan="off", log_level="warning", http=HttpProtocol, ws="none"
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await running
