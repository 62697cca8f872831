"""Assembles the FastAPI application."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline

from models.common.errors import GrapeError
from service.api import (
    adapter_routes,
    feedback_routes,
    gallery_routes,
    health_routes,
    index_routes,
    page_routes,
    rerank_routes,
    routes,
)
from service.api.auth import RequireKey, describe_keys
from service.api.middleware import RequestContext
from service.api.origins import AllowOrigins, CheckHost
from service.errors import add_error_handlers
from service.monitoring.gauges import ServiceGauges
from service.runtime.service import Service
from service.settings import Settings

log = logging.getLogger("grape")

PAGE = Path(__file__).parent.parent / "page"


def create_app(settings: Settings, on_failure: Callable[[], None] = lambda: None) -> FastAPI:
    """The application. Its parts start to load when it starts.

    Args:
        on_failure: called when the encoder, the index or the adapter cannot be used;
            ``app.state.service.failed`` then has the reason.
    """
    service = Service(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        running = asyncio.create_task(service.run())
        running.add_done_callback(lambda task: _ended(task, on_failure))
        yield
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError, GrapeError):
            await running

    # FastAPI's own /docs would load its script from a third-party server.
    app = FastAPIOffline(
        title="GRAPE",
        version=version("grape"),
        description="Image search that rewrites the query into a form the encoder knows.",
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,  # Starlette's redirects go to whatever host the request names
        static_url="/docs-static",
    )
    app.state.service = service
    service.metrics.add(ServiceGauges(service))
    _add_routes(app, settings)
    add_error_handlers(app)
    _add_middleware(app, settings, service)
    return app


def _add_middleware(app: FastAPI, settings: Settings, service: Service) -> None:
    """The last one is outermost."""
    app.add_middleware(RequireKey, keys=settings.api_keys)
    if settings.cors_origins:
        app.add_middleware(AllowOrigins, origins=settings.cors_origins)
    if not settings.api_keys:
        app.add_middleware(CheckHost, names=settings.allowed_hosts)
    app.add_middleware(
        RequestContext,
        metrics=service.metrics,
        max_body=_max_body(settings),
        max_bodies=settings.max_bodies_bytes,
    )


def _add_routes(app: FastAPI, settings: Settings) -> None:
    app.include_router(gallery_routes.router)
    app.include_router(routes.router)
    app.include_router(page_routes.router)
    app.include_router(rerank_routes.router)
    app.include_router(health_routes.router)
    app.include_router(index_routes.router)
    if settings.feedback:
        app.include_router(feedback_routes.router)
    if settings.adapter_registry:
        app.include_router(adapter_routes.router)
    app.mount("/static", StaticFiles(directory=PAGE), name="static")
    if settings.api_keys:
        _name_security_schemes(app)


def _name_security_schemes(app: FastAPI) -> None:
    """Makes `/openapi.json` name the schemes that `RequireKey` accepts."""
    without_keys = app.openapi

    def openapi() -> dict[str, Any]:
        document = without_keys()
        describe_keys(document)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation shows


def _max_body(settings: Settings) -> int:
    """Bytes of the largest valid request."""
    # base64 takes a third more than the picture, and a character up to six bytes as \uXXXX.
    image = settings.max_image_bytes * 4 // 3
    return image + settings.max_queries * settings.max_query_chars * 6


def _ended(task: asyncio.Task[None], on_failure: Callable[[], None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        if not isinstance(error, GrapeError):
            log.error("the service failed", exc_info=error)
        on_failure()
