"""GET /api/v1/events: what happens in the manager, while it happens."""

from __future__ import annotations

import enum
from functools import partial
from typing import Annotated, Any

import attrs
from fastapi import APIRouter, Depends, Query, Response

from .._errors import Outcome
from .._events import Event, Lagged
from ._access import needs, visible
from ._events import Channel, EventStream
from ._front import Front
from ._keys import Caller
from ._models import problems

BUFFER = 1000
"""Events that wait for one slow reader; further ones are lost to it, and it is told how many."""


def router(front: Front) -> APIRouter:
    """The endpoint."""
    routes = APIRouter(prefix="/api/v1", tags=["operation"])

    @routes.get(
        "/events", summary="Live events",
        responses={
            **problems(),
            200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "events"},
        },
    )  # fmt: skip
    async def events(
        caller: Annotated[Caller, Depends(needs("read"))],
        kinds: Annotated[
            str | None, Query(max_length=500, description="names, separated by commas; all of them")
        ] = None,
    ) -> Response:
        """Server-sent events, named as in `ccm.events`; `lagged` when this reader was too slow."""
        wanted = frozenset(kinds.split(",")) if kinds else None
        return EventStream(front, partial(_tell, front, caller, wanted))

    return routes


async def _tell(front: Front, caller: Caller, wanted: frozenset[str] | None, channel: Channel) -> None:
    await channel.raw(b": listening\n\n")
    async with front.manager.events(BUFFER) as stream:
        async for event in stream:
            if isinstance(event, Lagged):
                await channel.event("lagged", event_json(event))
            elif (wanted is None or type(event).__name__ in wanted) and _may_see(front, caller, event):
                await channel.event(type(event).__name__, event_json(event))


def _may_see(front: Front, caller: Caller, event: Any) -> bool:
    """A caller of one tenant sees what is surely that tenant's."""
    if caller.tenant is None:
        return True
    tenant = getattr(event, "tenant", None)
    if tenant is None:
        session = front.manager.session(getattr(event, "conversation", ""))
        tenant = None if session is None else session.tenant
    return tenant is not None and visible(caller, tenant)


def event_json(event: Event | Lagged) -> dict[str, Any]:
    """An event's fields; of outcomes only their names, because they hold texts. O(fields)."""
    return {field.name: _plain(getattr(event, field.name)) for field in attrs.fields(type(event))}


def _plain(value: Any) -> Any:
    if isinstance(value, Outcome):
        return value.name
    if isinstance(value, enum.IntEnum):
        return value.name.lower()
    if isinstance(value, (str, int, float, bool)) or value is None:
        return str(value) if isinstance(value, enum.StrEnum) else value
    if attrs.has(type(value)):
        return {field.name: _plain(getattr(value, field.name)) for field in attrs.fields(type(value))}
    return type(value).__name__
