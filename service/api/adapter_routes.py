"""Changes adapters while the service runs. Only served with --adapter-registry."""

from typing import Self

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.client.wire import ErrorType
from models.common.errors import GrapeError
from models.search.gate import Gate
from models.search.mixture import Mixture
from service.errors import ERROR_RESPONSES, ApiError
from service.rewriting.adapter_registry import NoSuchAdapter
from service.rewriting.routing import Busy, NothingBefore
from service.runtime.service import Service

router = APIRouter(prefix="/admin", tags=["admin"])


class AdapterChange(BaseModel):
    """Either a name or a rollback."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, description="Folder of the registry to load")
    rollback: bool = Field(False, description="Return to what was served before the last change")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.name is None) is not self.rollback:
            raise ValueError("send either name or rollback: true")
        return self


class ServedAdapter(BaseModel):
    """What serves one task."""

    adapter: str | None = Field(description="Name with a content hash; null is the base model")
    gate: Gate = Field(description="The gate of `rewrite: auto`, fitted with this adapter")
    mixture: Mixture = Field(description="How its rewrites are mixed, fitted with it likewise")
    ready: bool
    reason: str


class Adapters(BaseModel):
    served: dict[str, ServedAdapter] = Field(description="What serves each task")
    before: dict[str, str | None] | None = Field(
        description="What a rollback returns to, by task; null before the first change"
    )
    changing: str | None = Field(description="What is being loaded now")
    registry: list[str] = Field(description="Folders that can be loaded")


@router.get("/adapters", responses=ERROR_RESPONSES)
async def adapters(request: Request) -> Adapters:
    """The adapters that are served, those served before, and those that could be loaded."""
    return _adapters(request.app.state.service)


@router.post("/adapters", responses=ERROR_RESPONSES)
async def change_adapters(body: AdapterChange, request: Request) -> Adapters:
    """Loads an adapter from the registry, or rolls back. Answers when the change is complete.

    The new rewriter starts and is verified while the old one keeps answering. New requests go to it
    only then, and requests in flight finish on the old one. If anything fails, nothing changes.
    """
    service: Service = request.app.state.service
    rewriters = service.rewriters
    try:
        if body.name is None:
            await rewriters.rollback()
        else:
            name = body.name
            await rewriters.load(name, lambda: service.slot_from_registry(name))
    except NoSuchAdapter as error:
        raise ApiError(404, ErrorType.NOT_FOUND, str(error)) from error
    except (Busy, NothingBefore) as error:
        raise ApiError(409, ErrorType.CONFLICT, str(error)) from error
    except GrapeError as error:
        raise ApiError(422, ErrorType.ADAPTER_REFUSED, str(error)) from error
    return _adapters(service)


def _adapters(service: Service) -> Adapters:
    rewriters = service.rewriters
    before = rewriters.before
    return Adapters(
        served={
            task: ServedAdapter(
                adapter=slot.name,
                gate=slot.gate,
                mixture=slot.mixture,
                ready=slot.host.ready,
                reason=slot.host.reason,
            )
            for task, slot in rewriters.routing.items()
        },
        before={task: slot.name for task, slot in before.items()} if before else None,
        changing=rewriters.changing,
        registry=service.registry.names(),
    )
