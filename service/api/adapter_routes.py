"""Adapters that change while the service runs. There only with --adapter-registry."""

from typing import Self

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.client.wire import ErrorType
from models.common.errors import GrapeError
from models.search.gate import Gate
from service.api.routes import ERRORS
from service.errors import ApiError
from service.rewriting.adapter_registry import NoSuchAdapter
from service.rewriting.routing import Busy, NothingBefore
from service.runtime.service import Service

router = APIRouter(prefix="/admin", tags=["admin"])


class AdapterChange(BaseModel):
    """One of the two."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, description="a folder of the registry, to load")
    rollback: bool = Field(False, description="back to what was served before the last change")

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Self:
        if (self.name is None) is not self.rollback:
            raise ValueError("either name or rollback: true is needed")
        return self


class ServedAdapter(BaseModel):
    """What answers one task."""

    adapter: str | None = Field(description="with its content's hash; null is the base model")
    gate: Gate = Field(description="of `rewrite: auto`, fitted with the adapter")
    ready: bool
    reason: str


class Adapters(BaseModel):
    served: dict[str, ServedAdapter] = Field(description="by task")
    before: dict[str, str | None] | None = Field(
        description="by task, what a rollback goes back to; null before the first change"
    )
    changing: str | None = Field(description="what is being loaded now")
    registry: list[str] = Field(description="folders that can be loaded")


@router.get("/adapters", responses=ERRORS)
async def adapters(request: Request) -> Adapters:
    """What is served, what was served before, and what could be loaded."""
    return _told(request.app.state.service)


@router.post("/adapters", responses=ERRORS)
async def change_adapters(body: AdapterChange, request: Request) -> Adapters:
    """Loads an adapter from the registry, or rolls back; answers when it is done.

    The new rewriter is started and proved beside that which answers; only then is it asked, and
    requests on their way finish where they are. A failure leaves everything as it was.
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
    return _told(service)


def _told(service: Service) -> Adapters:
    rewriters = service.rewriters
    before = rewriters.before
    return Adapters(
        served={
            task: ServedAdapter(
                adapter=slot.name,
                gate=slot.gate,
                ready=slot.host.ready,
                reason=slot.host.reason,
            )
            for task, slot in rewriters.routing.items()
        },
        before={task: slot.name for task, slot in before.items()} if before else None,
        changing=rewriters.changing,
        registry=service.registry.names(),
    )
