"""Server-sent events."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, final

import trio
from starlette.responses import Response

from ._front import Front
from ._keys import Caller

KEEP_ALIVE = 15.0
"""Seconds of silence after which a comment is sent, so that proxies keep the connection."""
_HEAD = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would collect them
]


@final
class Channel:
    """Sends events to one client. They are never cut: who is cancelled while one is sent sends no more."""

    def __init__(self, send: Callable[[Any], Awaitable[None]]) -> None:
        self._send = send
        self._lock = trio.Lock()
        self.last = trio.current_time()

    async def event(self, name: str, data: Any) -> None:
        """Send one event."""
        text = json.dumps(data, default=str, separators=(",", ":"))
        await self.raw(f"event: {name}\ndata: {text}\n\n".encode())

    async def raw(self, data: bytes) -> None:
        """Send bytes that are whole lines."""
        async with self._lock:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
            self.last = trio.current_time()


@final
class EventStream(Response):
    """The response: `talk(channel)` sends events until it returns, its key is revoked, or the front end says
    farewell.

    An async generator would be left to the garbage collector when the client goes away in the middle of a
    send; this is cancelled with the request.
    """

    def __init__(self, front: Front, talk: Callable[[Channel], Awaitable[None]]) -> None:
        super().__init__()
        self._front = front
        self._talk = talk

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send the head, the events, the end."""
        await send({"type": "http.response.start", "status": 200, "headers": list(_HEAD)})
        channel = Channel(send)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_alive, channel)
            nursery.start_soon(self._say_farewell, channel, nursery.cancel_scope)
            nursery.start_soon(self._end_revoked, scope["ccm.caller"], nursery.cancel_scope)
            await self._talk(channel)
            nursery.cancel_scope.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _end_revoked(self, caller: Caller, scope: trio.CancelScope) -> None:
        await self._front.revoked(caller)
        scope.cancel()

    @staticmethod
    async def _keep_alive(channel: Channel) -> None:
        while True:
            await trio.sleep_until(channel.last + KEEP_ALIVE)
            if trio.current_time() >= channel.last + KEEP_ALIVE:
                await channel.raw(b": still here\n\n")

    async def _say_farewell(self, channel: Channel, scope: trio.CancelScope) -> None:
        await self._front.drained.wait()
        # No turn runs any more, but the last outcome may be on its way; its stream ends by itself.
        await trio.sleep(self._front.settings.farewell / 2)
        with trio.move_on_after(self._front.settings.farewell):
            await channel.event("farewell", {})
        scope.cancel()
