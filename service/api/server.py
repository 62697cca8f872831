"""Runs the application in uvicorn, and ends with it whatever it started."""

import contextlib
import logging
import math
import os
import signal
import socket
import sys
from collections.abc import Callable

import psutil
import uvicorn

from models.common.errors import INTERRUPTED
from service.api.app import create_app
from service.api_keys import require_key_beyond_loopback
from service.monitoring.logs import LogFormat
from service.monitoring.logs import set_up as set_up_logs
from service.runtime.first_start import prepare_demo
from service.settings import Settings

log = logging.getLogger("grape")

GRACE_S = 10  # for child processes, and at least as long for requests in flight
_MOST_GRACE_S = 18  # with the children's it stays below the 30 that a container's engine waits


def serve(settings: Settings) -> None:
    """Serves until interrupted; leaves the process without returning.

    Raises:
        InputError: it would be reached from other machines without a key.
    """
    require_key_beyond_loopback(settings.published_on or settings.host, settings.api_keys)
    if settings.prepare_demo:
        prepare_demo(settings.llm, bool(settings.llm_endpoint))
    server: uvicorn.Server

    def stop() -> None:
        server.should_exit = True

    set_up_logs(settings.log_format)
    app = create_app(settings, on_failure=stop)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        log_level="warning",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=grace_s(settings.rewrite_timeout_s),
        server_header=False,
    )
    server = _Server(config, settings.log_format)
    code = 0
    try:
        signal.signal(signal.SIGTERM, _terminated)  # which uvicorn calls when it has shut down
        server.run()
    except KeyboardInterrupt:  # uvicorn raises it again when it has shut down
        code = INTERRUPTED
    except _Terminated:
        code = 0
    except SystemExit:  # it could not listen, and has said why
        code = 1
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is ending already
    failed = app.state.service.failed
    if failed:
        print(f"grape serve: {failed}", file=sys.stderr)
    _end_children()
    # A thread may still be starting the engine, and Python would wait for it.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2 if failed else code)


def grace_s(rewrite_timeout_s: float) -> int:
    """How long requests in flight may take to end: a rewrite's deadline, and a second for hits."""
    return min(max(math.ceil(rewrite_timeout_s) + 1, GRACE_S), _MOST_GRACE_S)


class _Terminated(BaseException):
    """SIGTERM: what a service manager or a container's engine ends the server with."""


def _terminated(*_: object) -> None:
    raise _Terminated


class _Server(uvicorn.Server):
    """Says where it listens, once it does."""

    def __init__(self, config: uvicorn.Config, log_format: LogFormat) -> None:
        super().__init__(config)
        self._log_format = log_format

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            host = f"[{host}]" if ":" in host else host
            line = f"GRAPE is at http://{host}:{port} (still loading: see /readyz)"
            if self._log_format == "json":
                log.info(line)
            else:
                print(line, flush=True)


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
