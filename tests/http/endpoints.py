"""Endpoints for tests of what is around endpoints: they echo, hang, stream for ever and fail."""

from __future__ import annotations

from typing import Annotated, Any

import trio
from fastapi import APIRouter, Body, Depends, WebSocket
from fastapi.responses import Response
from starlette.websockets import WebSocketDisconnect

from ccm.http import Caller, Front
from ccm.http._access import needs

SECRET_TEXT = "my-password-is-hunter2"
CHUNK = b"data: " + b"x" * 65536 + b"\n\n"


class Log:
    """What happened inside of the endpoints."""

    def __init__(self) -> None:
        self.events: list[str] = []


class Endless(Response):
    """A stream until the farewell: it floods, or says nothing. No async generator: nobody would close it."""

    media_type = "text/event-stream"

    def __init__(self, front: Front, kind: str) -> None:
        super().__init__()
        self.front, self.kind = front, kind

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def say(data: bytes, *, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": more})

        LOG.events.append("stream began")
        try:
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await say(b": hello\n\n")
            while not self.front.drained.is_set():
                if self.kind == "flood":
                    await say(CHUNK)
                else:
                    await self.front.drained.wait()
            await say(b"event: farewell\ndata: {}\n\n", more=False)
        finally:
            LOG.events.append("stream ended")


def router(front: Front) -> APIRouter:
    """All of them, below /api/test."""
    routes = APIRouter(prefix="/api/test")

    @routes.post("/echo")
    async def echo(body: Annotated[Any, Body()]) -> Any:
        return body

    @routes.get("/caller")
    async def caller(who: Annotated[Caller, Depends(needs("read"))]) -> Any:
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
    async def stream(kind: str = "quiet") -> Response:
        return Endless(front, kind)

    @routes.websocket("/ws")
    async def ws(socket: WebSocket, kind: str = "echo") -> None:
        await socket.accept("ccm.v1" if "ccm.v1" in socket.scope["subprotocols"] else None)
        LOG.events.append("ws began")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_goodbye, socket, front, nursery.cancel_scope)
                if kind == "flood":
                    nursery.start_soon(_flood, socket)
                while kind == "rude":  # never looks whether anybody is there
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


async def _flood(socket: WebSocket) -> None:
    while True:
        await socket.send_text("x" * 65536)


LOG = Log()
