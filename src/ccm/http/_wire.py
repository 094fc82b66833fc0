"""One connection, as the server's protocol code sees it: writes end in time, and can be ended at once.

A response is not cut by a cancellation, so its writes are shielded. A client that stops reading would
therefore hold its task, and the end of the server, for ever: the shield has a deadline.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import inf
from typing import Any, cast, final

import anycorn
import anyio
import anyio.abc
import h11
import trio
import wsproto.utilities
from anycorn.events import Closed, Event, RawData
from anycorn.logging import Logger
from anycorn.tcp_server import TCPServer
from anycorn.typing import ConnectionState
from anycorn.worker_context import WorkerContext

from ._presence import KEY as PRESENCE
from ._presence import Presence

LOG = logging.getLogger("ccm.http")
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\nRetry-After: 1\r\n\r\n"
)
_CLOSE = b"\x88"  # how a WebSocket's close frame begins
_CLOSING = 1.0  # seconds the other side may take to answer it
_REFUSING = 0.5  # seconds a client that is refused may take to be told


@final
class Wire(anyio.abc.ByteStream):
    """A Trio socket in the clothes the protocol code expects.

    Args:
        stream: the socket.
        write_timeout: seconds a write may take.
        patience: seconds for the headers of the next request.
    """

    def __init__(self, stream: trio.SocketStream, write_timeout: float, patience: float = inf) -> None:
        self._stream = stream
        self._timeout = write_timeout
        self._patience = patience
        self._lock = trio.Lock()
        self._writing: trio.CancelScope | None = None
        self._reading: trio.CancelScope | None = None
        self._read_until = inf
        self._resting = self._finished = False
        self._websocket = False
        self._aborted = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """The next bytes."""
        data = b""
        with trio.CancelScope(deadline=self._read_until) as self._reading:
            try:
                data = bytes(await self._stream.receive_some(max_bytes))
            except trio.ClosedResourceError:
                raise anyio.ClosedResourceError from None
            except (trio.BrokenResourceError, OSError) as error:
                raise anyio.BrokenResourceError from error
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        """Send all of it within the time-out, or break the connection. It is not cut by a cancellation."""
        try:  # nearly always free, and then there is no need to let others run first
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()
        try:
            await self._send(item)
        finally:
            self._lock.release()

    async def _send(self, item: bytes) -> None:
        if self._aborted:
            raise anyio.BrokenResourceError
        deadline = trio.current_time() + self._timeout
        with trio.CancelScope(deadline=deadline, shield=True) as self._writing:
            try:
                await self._stream.send_all(item)
            except (trio.ClosedResourceError, trio.BrokenResourceError, trio.BusyResourceError) as error:
                raise anyio.BrokenResourceError from error
        if self._writing.cancelled_caught:
            self.abort()
            raise anyio.BrokenResourceError
        if self._websocket:
            if item[:1] == _CLOSE:
                # The other side has a moment to send one, too. Many never do.
                self._read_within(_CLOSING)
        elif item.startswith(b"HTTP/1.1 101 "):
            self._websocket = True

    def _read_within(self, seconds: float) -> None:
        """What comes later than that is not read: the connection ends."""
        self._read_until = trio.current_time() + seconds
        if self._reading is not None:
            self._reading.deadline = self._read_until

    def rest(self) -> None:
        """No request runs: the next one has to come in time."""
        self._resting = True
        self._read_within(0.0 if self._finished else self._patience)

    def work(self) -> None:
        """A request runs, and takes as long as it takes."""
        self._resting = False
        self._read_within(inf)

    def finish(self) -> None:
        """No request after the one that runs."""
        self._finished = True
        if self._resting:
            self._read_within(0.0)

    async def send_eof(self) -> None:
        """No more from us."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close it."""
        await self._stream.aclose()

    def abort(self) -> None:
        """Break it at once: whatever reads or writes it gets an error."""
        self._aborted = True
        if self._writing is not None:
            self._writing.cancel()
        with suppress(OSError):
            self._stream.socket.shutdown(socket.SHUT_RDWR)

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """The socket, for its addresses."""
        return {anyio.abc.SocketAttribute.raw_socket: lambda: self._stream.socket}


@final
class _Pause:
    """The time between two requests: a deadline of the reader, because a task would cost a tenth of one."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def restart(self, group: object, action: object) -> None:
        self._wire.rest()

    async def stop(self) -> None:
        self._wire.work()


@final
class _Server(TCPServer):
    """The protocol code of one connection. A client that has left does not hold its place any longer."""

    def __init__(self, app: Any, config: anycorn.Config, context: WorkerContext, wire: Wire) -> None:
        self._presence = Presence()
        state = ConnectionState({PRESENCE: self._presence})
        super().__init__(app, config, context, state, cast(Any, wire))
        self.idle_task = cast(Any, _Pause(wire))

    async def _read_data(self) -> None:
        while True:
            try:
                data = await self.stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                break
            await self.protocol.handle(RawData(data))
        await self.protocol.handle(Closed())
        self._presence.leave()

    async def protocol_send(self, event: Event) -> None:
        """Send bytes; the base class does what else there is."""
        if not isinstance(event, RawData):
            await super().protocol_send(event)
        elif event.data:  # the end of a response of known length has none
            try:
                await self.stream.send(event.data)
            except anyio.BrokenResourceError:
                await self.protocol.handle(Closed())


class _QuietLog(Logger):
    """The protocol code's log without what clients sent: it quotes malformed headers, keys included."""

    async def info(self, message: str, *args: Any, **kwargs: Any) -> None:
        """Nothing."""

    async def exception(self, message: str, *args: Any, **kwargs: Any) -> None:
        """That it happened. The guard has logged what was worth it."""
        LOG.error("a connection failed: %s", message)


@final
class Connections:
    """All connections of a server.

    Args:
        app: the application.
        limit: connections at a time; more are told 503.
        max_header_bytes: of a request.
        max_message: bytes of a WebSocket message.
        header_timeout: seconds for the headers, and between requests.
        write_timeout: seconds a client may leave unread what is sent to it.
    """

    def __init__(
        self, app: Any, *, limit: int, max_header_bytes: int, max_message: int, header_timeout: float,
        write_timeout: float,
    ) -> None:  # fmt: skip
        self._app = app
        self._limit = limit
        self._header_timeout = header_timeout
        self._write_timeout = write_timeout
        self._wires: dict[Wire, None] = {}  # ordered
        self._empty = trio.Event()
        self._empty.set()
        self._context = WorkerContext(None)
        self._config = config = anycorn.Config()
        config.logger_class = _QuietLog
        config.accesslog = None
        config.errorlog = LOG
        config.include_server_header = False
        config.h11_max_incomplete_size = max_header_bytes
        config.websocket_max_message_size = max_message
        config.websocket_permessage_deflate = False  # 199 KiB of it can become 160 MiB
        config.h2_max_concurrent_streams = 1  # the guard refuses HTTP/2; this bounds how often it is asked

    def __len__(self) -> int:
        return len(self._wires)

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection until it ends."""
        if len(self._wires) >= self._limit:
            with trio.move_on_after(_REFUSING), suppress(trio.BrokenResourceError):
                await stream.send_all(_FULL)
                await stream.send_eof()
            await stream.aclose()
            return
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # a peer that vanished is noticed by the kernel, too
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * self._write_timeout))
        wire = Wire(stream, self._write_timeout, self._header_timeout)
        self._wires[wire] = None
        self._empty = trio.Event()
        try:
            await _Server(self._call, self._config, self._context, wire).run()
        except Exception as error:
            # The end of one connection, whatever the reason, is not the end of the others.
            # A client that breaks the protocol is no error of ours.
            level = logging.INFO if _clients_fault(error) else logging.ERROR
            LOG.log(level, "a connection failed: %s", type(error).__name__)
        finally:
            del self._wires[wire]
            if not self._wires:
                self._empty.set()
            await trio.aclose_forcefully(stream)

    async def _call(self, scope: Any, receive: Any, send: Any, spawn: object, call: object) -> None:
        await self._app(scope, receive, send)

    async def finish(self) -> None:
        """Let connections end with the response they are at; idle ones end at once."""
        await self._context.terminated.set()
        for wire in self._wires:
            wire.finish()

    async def ended(self) -> None:
        """Wait until there is no connection."""
        while self._wires:
            await self._empty.wait()

    def abort(self) -> None:
        """Break what is left."""
        for wire in list(self._wires):
            wire.abort()


def _clients_fault(error: Exception) -> bool:
    if isinstance(error, ExceptionGroup):
        return all(_clients_fault(inner) for inner in error.exceptions)
    return isinstance(error, (h11.RemoteProtocolError, wsproto.utilities.RemoteProtocolError))
