"""GET /api/v1/events: what happens in the manager, while it happens."""

from __future__ import annotations

import enum
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import attrs
from fastapi import APIRouter, Depends, Query, Response

from .. import events
from .._core.alerts import Alert  # an event's part; its public name leads to the manager
from .._errors import Outcome
from .._events import Event, Lagged, ProviderPaused
from ._access import needs, visible
from ._events import Channel, EventStream
from ._front import Front
from ._keys import Caller
from ._models import problems
from ._problems import ProblemError

BUFFER = 1000
"""Events that wait for one slow reader; further ones are lost to it, and it is told how many."""
KINDS = tuple(name for name in events.__all__ if name not in ("Event", "Lagged"))
"""What `kinds` may name. `lagged` comes in any case."""
_TIMES = {(Event, "at"), (ProviderPaused, "until"), (Alert, "since")}
"""Fields that are times of Trio's clock, which nobody else has: they are told as ISO 8601 in UTC."""


def _wanted(kinds: str | None) -> frozenset[str]:
    """The kinds that a filter names, all without one; 422 for one that does not exist."""
    if not kinds:
        return frozenset(KINDS)
    names = [name.strip() for name in kinds.split(",")]
    for name in names:
        if name not in KINDS:
            raise ProblemError(
                422, f"there is no event {name!r}; kinds may name {', '.join(KINDS)}.", reason="kinds",
                kinds=list(KINDS),
            )  # fmt: skip
    return frozenset(names)


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
    async def live(
        caller: Annotated[Caller, Depends(needs("read"))],
        kinds: Annotated[
            str | None,
            Query(max_length=500, description=f"which, separated by commas, of {', '.join(KINDS)}; else all"),
        ] = None,
    ) -> Response:
        """Server-sent events, named as in `ccm.events`; `lagged` when this reader was too slow."""
        return EventStream(front, partial(_tell, front, caller, _wanted(kinds)))

    return routes


async def _tell(front: Front, caller: Caller, wanted: frozenset[str], channel: Channel) -> None:
    await channel.raw(b": listening\n\n")
    async with front.manager.events(BUFFER) as stream:
        async for event in stream:
            if isinstance(event, Lagged):
                await channel.event("lagged", event_json(event, front.wall))
            elif type(event).__name__ in wanted and _may_see(front, caller, event):
                await channel.event(type(event).__name__, event_json(event, front.wall))


def _may_see(front: Front, caller: Caller, event: Any) -> bool:
    """A caller of one tenant sees what is surely that tenant's."""
    if caller.tenant is None:
        return True
    tenant = getattr(event, "tenant", None)
    if tenant is None:
        session = front.manager.session(getattr(event, "conversation", ""))
        tenant = None if session is None else session.tenant
    return tenant is not None and visible(caller, tenant)


def event_json(event: Event | Lagged, wall: Callable[[float], str]) -> dict[str, Any]:
    """An event's fields; of outcomes only their names, because they hold texts. O(fields).

    Args:
        event: what happened.
        wall: makes a time of Trio's clock one for people: `front.wall`.
    """
    return _fields(event, wall)


def _fields(value: Any, wall: Callable[[float], str]) -> dict[str, Any]:
    times = {name for kind, name in _TIMES if isinstance(value, kind)}
    return {
        field.name: wall(found) if field.name in times else _plain(found, wall)
        for field in attrs.fields(type(value))
        for found in (getattr(value, field.name),)
    }


def _plain(value: Any, wall: Callable[[float], str]) -> Any:
    if isinstance(value, Outcome):
        return value.name
    if isinstance(value, enum.IntEnum):
        return value.name.lower()
    if isinstance(value, (str, int, float, bool)) or value is None:
        return str(value) if isinstance(value, enum.StrEnum) else value
    if attrs.has(type(value)):
        return _fields(value, wall)
    return type(value).__name__
