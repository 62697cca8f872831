"""Runs the application in uvicorn, and ends whatever it started when it stops."""

import contextlib
import logging
import math
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence

import psutil
import uvicorn
from fastapi import FastAPI

from models.common.errors import INTERRUPTED
from models.retriever import picture_worker
from service.api.app import create_app
from service.api.protocol import HttpProtocol
from service.monitoring.logs import LogFormat
from service.monitoring.logs import set_up as set_up_logs
from service.runtime.first_start import prepare_demo
from service.settings import Settings

log = logging.getLogger("grape")

GRACE_S = 10  # at least, for requests in flight
_MAX_GRACE_S = 18  # with the children's grace, under the 30 s that a container engine waits
_CHILDREN_S = 2  # for child processes, which have nothing left to do
_TRACKER = "multiprocessing.resource_tracker"


def serve(settings: Settings, sockets: Sequence[socket.socket]) -> None:
    """Serves on these sockets until interrupted, then exits the process without returning."""
    if settings.prepare_demo:
        prepare_demo(settings.llm, bool(settings.llm_endpoint))
    server: _Server

    def stop() -> None:
        server.should_exit = True

    set_up_logs(settings.log_format)
    app = create_app(settings, on_failure=stop)
    server = _Server(_uvicorn_config(app, settings), settings.log_format)
    code = _run(server, sockets)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # already shutting down
    failed = app.state.service.failed
    if failed:
        print(f"grape serve: {failed}", file=sys.stderr)
    picture_worker.close()
    _end_children()
    # A thread may still be starting the engine, and Python would wait for it.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2 if failed else code)


def grace_s(rewrite_timeout_s: float) -> int:
    """Seconds that requests in flight may take: a rewrite's deadline plus a second for the hits."""
    return min(max(math.ceil(rewrite_timeout_s) + 1, GRACE_S), _MAX_GRACE_S)


def _uvicorn_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=HttpProtocol,
        ws="none",
        log_level="warning",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=grace_s(settings.rewrite_timeout_s),
        server_header=False,
    )


def _run(server: "_Server", sockets: Sequence[socket.socket]) -> int:
    """Runs the server until it shuts down; returns the exit code."""
    try:
        signal.signal(signal.SIGTERM, _terminated)  # uvicorn calls it after shutting down
        server.run(list(sockets))
    except KeyboardInterrupt:  # uvicorn raises it again after shutting down
        return INTERRUPTED
    except _Terminated:
        return 0
    return 0


class _Terminated(BaseException):
    """SIGTERM, which service managers and container engines send to stop the server."""


def _terminated(*_: object) -> None:
    raise _Terminated


class _Server(uvicorn.Server):
    """Prints its address as soon as it listens."""

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
    """Ends vLLM's processes, even if they were still starting.

    The resource tracker of multiprocessing ignores SIGTERM; it removes what they have left behind
    and ends when we have ended.
    """
    children = [c for c in psutil.Process().children(recursive=True) if not _is_tracker(c)]
    for child in children:
        _quietly(child.terminate)
    _, alive = psutil.wait_procs(children, timeout=_CHILDREN_S)
    for child in alive:
        _quietly(child.kill)


def _is_tracker(child: psutil.Process) -> bool:
    try:
        return _TRACKER in " ".join(child.cmdline())
    except psutil.Error:  # it has just ended
        return False


def _quietly(end: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        end()
