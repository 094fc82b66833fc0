"""GET /healthz and /readyz, for whoever starts and stops the process."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from ._front import Front
from ._models import problems


def router(front: Front) -> APIRouter:
    """The endpoints."""
    routes = APIRouter(tags=["operation"])
    states: dict[int | str, dict[str, Any]] = {200: {"description": "it is"}}

    @routes.get("/healthz", summary="Is the process alive?", responses={**problems(), **states})
    async def healthz() -> dict[str, str]:
        """Always `ok`: who gets no answer should start the process anew."""
        return {"status": "ok"}

    @routes.get(
        "/readyz", summary="Should it get requests?",
        responses={**problems(), **states, 503: {"description": "it should not: draining, or no storage"}},
    )  # fmt: skip
    async def readyz() -> JSONResponse:
        """503 while it shuts down, or while its storage fails."""
        if front.draining:
            return JSONResponse({"status": "draining"}, 503)
        if front.manager.statistics().storage.get("failing"):
            return JSONResponse({"status": "storage"}, 503)
        return JSONResponse({"status": "ready"})

    return routes
