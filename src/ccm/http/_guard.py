"""The outermost layer."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from ._front import Front
from ._keys import LOCAL


class Guard:
    """An ASGI application around another: it refuses what must not reach the inner one."""

    def __init__(self, inner: FastAPI, front: Front) -> None:
        self.inner = inner
        self.front = front

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request, or one WebSocket."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        scope["ccm.caller"] = LOCAL
        await self.inner(scope, receive, send)


async def _lifespan(receive: Any, send: Any) -> None:
    """The manager lives around the server, so there is nothing to start and to stop here."""
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
