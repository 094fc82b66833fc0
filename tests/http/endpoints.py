"""Endpoints for tests of what is around endpoints: they echo, hang, stream for ever and fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import trio
from fastapi import APIRouter, Body, Depends, WebSocket
from fastapi.responses import StreamingResponse
from starlette.websockets import WebSocketDisconnect

from ccm.http import Front
from ccm.http._access import needs

SECRET_TEXT = "my-password-is-hunter2"
CHUNK = b"data: " + b"x" * 65536 + b"\n\n"


class Log:
    """What happened inside of the endpoints."""

    def __init__(self) -> None:
        self.events: list[str] = []


def router(front: Front) -> APIRouter:
    """All of them, below /api/test."""
    routes = APIRouter(prefix="/api/test")

    @routes.post("/echo")
    async def echo(body: Any = Body()) -> Any:
        return body

    @routes.get("/caller")
    async def caller(who: Any = Depends(needs("read"))) -> Any:
        return {"name": who.name, "tenant": who.tenant}

    @routes.get("/hang")
    async def hang() -> str:
        LOG.events.append("hang began")
        try:
            await trio.sleep(60)
        finally:
            LOG.events.append("hang ended")
        return ""

    @routes.get("/boom")
    async def boom() -> None:
        raise KeyError(SECRET_TEXT)

    @routes.get("/stream")
    async def stream(kind: str = "quiet") -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            LOG.events.append("stream began")
            try:
                yield b": hello\n\n"
                while not front.drained.is_set():
                    if kind == "flood":
                        yield CHUNK
                    else:
                        await front.drained.wait()
                yield b"event: farewell\ndata: {}\n\n"
            finally:
                LOG.events.append("stream ended")

        return StreamingResponse(pieces(), media_type="text/event-stream")

    @routes.websocket("/ws")
    async def ws(socket: WebSocket, kind: str = "echo") -> None:
        await socket.accept("ccm.v1" if "ccm.v1" in socket.scope["subprotocols"] else None)
        LOG.events.append("ws began")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_goodbye, socket, front, nursery.cancel_scope)
                while kind == "flood":
                    await socket.send_text("x" * 65536)
                while True:
                    await socket.send_text(await socket.receive_text())
        except* WebSocketDisconnect:
            pass
        finally:
            LOG.events.append("ws ended")

    return routes


async def _goodbye(socket: WebSocket, front: Front, scope: trio.CancelScope) -> None:
    await front.drained.wait()
    await socket.close(1001)
    scope.cancel()


LOG = Log()
