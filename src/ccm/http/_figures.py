"""Figures, alerts, services, dead letters and settings, for the dashboard and for programs."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any, Literal

import attrs
import trio
from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import JSONResponse, Response

from .._books import DeadLetter
from ._access import check_figures, needs, visible
from ._front import Front
from ._keys import Caller, Keys
from ._models import problems
from ._plain import plain
from ._problems import missing

Read = Annotated[Caller, Depends(needs("read"))]
Admin = Annotated[Caller, Depends(needs("admin"))]
Number = Annotated[int, Path(ge=1, le=2**53, description="the dead letter's number")]


def router(front: Front) -> APIRouter:
    """The endpoints."""
    routes = APIRouter(prefix="/api/v1", tags=["operation"], responses=problems(404))
    started = trio.current_time()
    _pictures(front, routes, started)
    _settings(front, routes)
    _letters(front, routes)
    return routes


def _pictures(front: Front, routes: APIRouter, started: float) -> None:
    @routes.get("/statistics", summary="One picture of now")
    async def statistics(caller: Read) -> dict[str, Any]:
        """Everything that `manager.statistics()` has."""
        check_figures(caller)
        picture = front.manager.statistics()
        found: dict[str, Any] = plain(picture)
        found["at"] = front.wall(picture.at)
        found["uptime"] = picture.at - started
        found["success_rate"] = picture.success_rate
        found["bottlenecks"] = list(picture.bottlenecks)
        found["unjournaled"] = picture.unjournaled
        found["storage"] = found["storage"] or None
        return found

    @routes.get("/trends", summary="What happened lately")
    async def trends(
        caller: Read,
        step: Annotated[
            Literal["1", "60"], Query(description="1: the last 300 seconds; 60: the last day")
        ] = "1",
    ) -> dict[str, Any]:
        """Columns of equal length, a value for each second or minute that is over."""
        check_figures(caller)
        found = front.manager.trends(int(step))
        columns: dict[str, Any] = plain(found)
        for name in ("step", "epoch"):
            columns.pop(name, None)
        columns["at"] = [round(at + found.epoch, 3) for at in found.at]
        return {"step": int(step), "columns": columns}

    @routes.get("/alerts", summary="What somebody should look at")
    async def alerts(caller: Read) -> dict[str, Any]:
        """The active alerts, the worst first; empty without rules."""
        check_figures(caller)
        return {
            "items": [plain(alert) | {"since": front.wall(alert.since)} for alert in front.manager.alerts]
        }

    @routes.get("/services", summary="Background workers")
    async def services(caller: Read) -> dict[str, Any]:
        """The figures of each service."""
        check_figures(caller)
        found = front.manager.statistics().services
        return {"items": [plain(one) | {"name": name} for name, one in found.items()]}


def _settings(front: Front, routes: APIRouter) -> None:
    @routes.get("/settings", summary="The settings in force")
    async def settings(caller: Read) -> dict[str, Any]:
        """Of the manager and of the front end; never keys."""
        check_figures(caller)
        own = {
            field.name: plain(getattr(front.settings, field.name))
            for field in attrs.fields(type(front.settings))
            if field.name != "keys"
        }
        keys: Keys | None = front.settings.keys
        routes_ = sorted(front.manager.statistics().routes)
        return {
            "config": plain(front.manager.config), "http": own | {"keys": keys is not None},
            "routes": routes_, "version": version("ccm"),
        }  # fmt: skip


def _letter_json(front: Front, letter: DeadLetter) -> dict[str, Any]:
    message = letter.message
    return {
        "id": letter.id, "route": letter.route, "service": letter.service, "attempts": letter.attempts,
        "error": letter.error, "at": front.wall(letter.at),
        "conversation": None if message is None else message.conversation,
        "user": None if message is None else message.user, "text": None if message is None else message.text,
    }  # fmt: skip


def _letters(front: Front, routes: APIRouter) -> None:
    def own(caller: Caller) -> dict[int, DeadLetter]:
        return {
            letter.id: letter
            for letter in front.manager.dead_letters()
            if visible(caller, "" if letter.message is None else letter.message.tenant)
        }

    def find(caller: Caller, id: int) -> None:
        if id not in own(caller):
            raise missing("dead letter")

    @routes.get("/dead-letters", summary="What failed for good")
    async def letters(caller: Read, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> dict[str, Any]:
        """The newest, oldest first."""
        return {"items": [_letter_json(front, letter) for letter in [*own(caller).values()][-limit:]]}

    @routes.post("/dead-letters/{id}/replay", summary="Try it again", responses=problems(404, 409))
    async def replay(id: Number, caller: Admin) -> Response:
        """Hand it in again; the letter is gone once it is accepted."""
        find(caller, id)
        try:
            receipt = await front.manager.replay(id)
        except KeyError:
            raise missing("dead letter") from None
        front.audit(caller, "replay", letter=id)
        if receipt is None:
            return JSONResponse({"turn": None})
        await front.exchanges.note(receipt)
        return JSONResponse({"turn": receipt.turn_id})

    @routes.delete(
        "/dead-letters/{id}", summary="Forget it", status_code=204,
        responses={**problems(404), 204: {"description": "gone"}},
    )  # fmt: skip
    async def discard(id: Number, caller: Admin) -> Response:
        """It is gone for good."""
        find(caller, id)
        try:
            front.manager.discard(id)
        except KeyError:
            raise missing("dead letter") from None
        front.audit(caller, "discard", letter=id)
        await trio.lowlevel.checkpoint()
        return Response(status_code=204)
