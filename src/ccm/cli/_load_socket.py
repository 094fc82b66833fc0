"""The WebSockets of `ccm load`: one for each person, who may have several messages under way on it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import urlsplit

import attrs
import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)  # fmt: skip
from wsproto.utilities import ProtocolError

from ._web import Target

if TYPE_CHECKING:
    from ._load_run import Answer

_CONNECT: Final = 10.0
"""Seconds to connect in."""
_GOODBYE: Final = 2.0
"""Seconds for all goodbyes."""
_LOST: Final = (
    HandshakeError, ConnectionClosed, ProtocolError, OSError, ValueError, trio.TooSlowError,
    trio.BrokenResourceError, trio.ClosedResourceError,
)  # fmt: skip
"""What ends a socket, ours or theirs; ValueError: what came is none of the server's frames."""


@attrs.define
class _Asked:
    """A message under way; `answer` is there when `done` is set."""

    first: Callable[[], None]
    answer: Answer = ("ConnectionClosed", None)
    done: trio.Event = attrs.field(factory=trio.Event)

    def settle(self, status: str, body: dict[str, Any] | None = None) -> None:
        self.answer = status, body
        self.done.set()


@final
class _Socket:
    """One person's socket. Invariant: after `over` is set nothing is in `_asked`."""

    def __init__(self) -> None:
        self.over = False
        self._asked: dict[str, _Asked] = {}
        self._ready = trio.Event()
        self._scope = trio.CancelScope()
        self._connection: WebSocketConnection | None = None
        self._status = "ConnectionClosed"

    async def run(self, target: Target) -> None:  # noqa: ASYNC910 - connecting waits
        """Connect, and hand out what comes until the connection ends."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:  # the connection's own: its errors are its affair
                    await self._live(target, nursery)
        except* ConnectionRejected as errors:  # of the library's task that reads
            self._status = str(_first(errors).status_code)
        except* _LOST as errors:
            self._status = type(_first(errors)).__name__
        finally:
            self.over = True
            self._ready.set()
            for asked in self._asked.values():
                asked.settle(self._status)
            self._asked.clear()

    async def _live(self, target: Target, nursery: trio.Nursery) -> None:
        stream: trio.abc.Stream | None = None
        try:
            with trio.fail_after(_CONNECT):
                stream = await _dial(target)
                connection = await _shake_hands(target, nursery, stream)
                await connection.send_message('{"type":"hello"}')
            self._connection = connection
            self._ready.set()
            while True:
                self._take(json.loads(await connection.get_message()))
        finally:
            if stream is not None:
                await trio.aclose_forcefully(stream)  # the library leaves it open when it was refused

    def _take(self, frame: Any) -> None:
        if not isinstance(frame, dict):
            raise ValueError("a frame must be an object")
        id = str(frame.get("id", frame.get("ref")))
        asked, kind = self._asked.get(id), frame.get("type")
        if asked is None:
            return
        if kind == "piece":
            asked.first()
        elif kind in ("outcome", "error"):
            del self._asked[id]
            asked.settle("200" if kind == "outcome" else "error", frame)

    async def ask(self, id: str, message: dict[str, str], first: Callable[[], None]) -> Answer:
        """Send a message and wait for its outcome, or the end of the socket."""
        asked = self._asked[id] = _Asked(first)
        try:
            await self._ready.wait()
            if not asked.done.is_set():
                await self._send({"type": "message", "id": id, "ref": id, **message})
            await asked.done.wait()
        finally:
            self._asked.pop(id, None)
        return asked.answer

    async def _send(self, frame: dict[str, Any]) -> None:
        """Send a frame. When it was not sent, half of it may have been: then the socket ends."""
        assert self._connection is not None
        sent = False
        try:
            await self._connection.send_message(json.dumps(frame))
            sent = True
        except ConnectionClosed:
            await trio.lowlevel.checkpoint()
        finally:
            if not sent:
                self._scope.cancel()

    async def say_goodbye(self) -> None:
        """Close it with 1000, so that the server does not wait for it to come back."""
        await trio.lowlevel.checkpoint()
        if self._connection is not None and not self.over:
            await self._connection.aclose()


def _first(errors: BaseExceptionGroup[Any]) -> Any:
    error: Any = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _dial(target: Target) -> trio.abc.Stream:
    parts = urlsplit(target.url)
    assert parts.hostname is not None
    if parts.scheme == "https":
        return await trio.open_ssl_over_tcp_stream(parts.hostname, parts.port or 443, https_compatible=True)
    return await trio.open_tcp_stream(parts.hostname, parts.port or 80)


async def _shake_hands(target: Target, nursery: trio.Nursery, stream: trio.abc.Stream) -> WebSocketConnection:
    parts = urlsplit(target.url)
    headers = [] if target.key is None else [(b"Authorization", f"Bearer {target.key}".encode())]
    return await wrap_client_stream(
        nursery,
        stream,  # type: ignore[arg-type]  # any stream will do
        parts.netloc.rpartition("@")[2],
        parts.path + "/api/v1/ws",
        extra_headers=headers,
    )


@final
class Sockets:
    """The sockets of a run; each is opened at its person's first message, and anew when it has ended."""

    def __init__(self, target: Target, nursery: trio.Nursery) -> None:
        self._target = target
        self._nursery = nursery
        self._sockets: dict[str, _Socket] = {}
        self._count = 0

    async def ask(self, message: dict[str, str], first: Callable[[], None]) -> Answer:
        """Send a message on its user's socket and wait for its outcome.

        Args:
            message: as the body of `POST /api/v1/chat`.
            first: is called for each piece of the reply.
        """
        user = message["user"]
        socket = self._sockets.get(user)
        if socket is None or socket.over:
            socket = self._sockets[user] = _Socket()
            self._nursery.start_soon(socket.run, self._target)
        self._count += 1
        return await socket.ask(f"{user}-{self._count}", message, first)

    async def close(self) -> None:
        """Say goodbye on each; whoever does not answer in time is left."""
        with trio.move_on_after(_GOODBYE):
            async with trio.open_nursery() as nursery:
                for socket in self._sockets.values():
                    nursery.start_soon(socket.say_goodbye)


@asynccontextmanager
async def open_sockets(target: Target) -> AsyncIterator[Sockets]:
    """Sockets to that server, which are closed with the block."""
    async with trio.open_nursery() as nursery:
        sockets = Sockets(target, nursery)
        yield sockets
        await sockets.close()
        nursery.cancel_scope.cancel()
