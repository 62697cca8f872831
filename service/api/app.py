"""Puts the FastAPI application together."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from models.common.errors import GrapeError
from service import errors
from service.api import adapter_routes as admin
from service.api.auth import RequireKey
from service.api.middleware import RequestContext
from service.api.routes import router
from service.monitoring.gauges import ServiceGauges
from service.runtime.service import Service
from service.settings import Settings

log = logging.getLogger("grape")

PAGE = Path(__file__).parent.parent / "page"


def create_app(settings: Settings, on_failure: Callable[[], None] = lambda: None) -> FastAPI:
    """The application; its parts begin to load when it starts.

    Args:
        on_failure: called when encoder, index or adapter cannot be used;
        ``app.state.service.failed``
            then has the reason.
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

    # FastAPI's own /docs would load its script from somebody else's server.
    app = FastAPIOffline(
        title="GRAPE",
        version=version("grape"),
        description="Image search that rewrites the query into a form the encoder knows.",
        lifespan=lifespan,
        redoc_url=None,
        static_url="/docs-static",
    )
    app.state.service = service
    service.metrics.add(ServiceGauges(service))
    app.include_router(router)
    if settings.adapter_registry:
        app.include_router(admin.router)
    app.mount("/static", StaticFiles(directory=PAGE), name="static")
    app.add_exception_handler(errors.ApiError, errors.on_api_error)
    app.add_exception_handler(RequestValidationError, errors.on_validation_error)
    app.add_exception_handler(HTTPException, errors.on_http_exception)
    app.add_exception_handler(Exception, errors.on_unexpected)
    # base64 takes a third more than the picture; a character of a query up to six bytes as \uXXXX.
    body = settings.max_image_bytes * 4 // 3 + settings.max_queries * settings.max_query_chars * 6
    app.add_middleware(RequireKey, keys=settings.api_keys)  # inside of what follows
    app.add_middleware(RequestContext, metrics=service.metrics, max_body=body)
    return app


def _ended(task: asyncio.Task[None], on_failure: Callable[[], None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        if not isinstance(error, GrapeError):
            log.error("the service failed", exc_info=error)
        on_failure()
