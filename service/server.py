"""Runs the application in uvicorn, and ends with it whatever it started."""

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable

import psutil
import uvicorn

from models.errors import INTERRUPTED
from service.app import create_app
from service.settings import Settings

GRACE_S = 10  # for requests in flight, and again for child processes


def serve(settings: Settings) -> None:
    """Serves until interrupted; leaves the process without returning."""
    server: uvicorn.Server

    def stop() -> None:
        server.should_exit = True

    logging.basicConfig(format="%(message)s")
    logging.getLogger("grape").setLevel(logging.INFO)
    app = create_app(settings, on_failure=stop)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
        server_header=False,
    )
    server = _Server(config)
    code = 0
    try:
        server.run()
    except KeyboardInterrupt:  # uvicorn raises it again when it has shut down
        code = INTERRUPTED
    except SystemExit:  # it could not listen, and has said why
        code = 1
    failed = app.state.service.failed
    if failed:
        print(f"grape serve: {failed}", file=sys.stderr)
    _end_children()
    # A thread may still be starting the engine, and Python would wait for it.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2 if failed else code)


class _Server(uvicorn.Server):
    """Says where it listens, once it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            host = f"[{host}]" if ":" in host else host
            print(f"GRAPE is at http://{host}:{port} (still loading: see /readyz)", flush=True)


def _end_children() -> None:
    """Ends vLLM's processes, also when it was interrupted half-way through starting them."""
    children = psutil.Process().children(recursive=True)
    for child in children:
        _quietly(child.terminate)
    _, alive = psutil.wait_procs(children, timeout=GRACE_S)
    for child in alive:
        _quietly(child.kill)


def _quietly(end: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        end()
