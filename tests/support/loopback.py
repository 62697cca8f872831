"""The application of these tests behind a real socket, for what cannot be called in process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import uvicorn


@contextlib.asynccontextmanager
async def listening(client: httpx.AsyncClient) -> AsyncIterator[str]:
    """The address at which the running application of ``client`` is served meanwhile."""
    transport = client._transport
    assert isinstance(transport, httpx.ASGITransport)
    # Started by the fixture already: its lifespan is not uvicorn's.
    config = uvicorn.Config(transport.app, port=0, lifespan="off", log_level="warning")
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await running
