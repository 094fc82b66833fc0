"""A proxy that breaks connections on purpose: between a client and a server, on loopback or in memory.

async with open_chaos() as chaos:
    url = await chaos.listen("127.0.0.1", port)  # or: dial=chaos.through(fake.dial), in memory
    chaos.reset()  # RST for all that are open; also finish() (FIN), swallow() (black hole)
    chaos.slice = 1  # bytes of one write; delay: seconds before each write; dead: nobody is there
"""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import final

import trio
from trio.testing import memory_stream_pair

from ccm.discord._dial import Address, Dialler

CHUNK = 65_536
GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


@final
class _Wire:
    """One connection: what the client sees (`near`) and what the server sees (`far`)."""

    def __init__(self, near: trio.abc.Stream, far: trio.abc.Stream) -> None:
        self.near, self.far = near, far
        self.swallows = False
        self.ended = trio.CancelScope()


@final
class Chaos:
    """Made by `open_chaos`.

    Attributes:
        slice: bytes of one write at most, 0: as they come.
        delay: seconds before each write.
        dead: connections are refused, or on sockets reset before the first byte.
        made: connections so far.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._wires: set[_Wire] = set()
        self.slice = 0
        self.delay = 0.0
        self.dead = False
        self.made = 0

    # -- what a test may do ----------------------------------------------------------------------

    def reset(self) -> None:
        """RST: everything that is under way is lost."""
        for wire in self._wires:
            _no_linger(wire.near)
            wire.ended.cancel()

    async def finish(self) -> None:
        """FIN to the client: it hears that nothing more will come, and may still send."""
        for wire in list(self._wires):
            wire.swallows = True
            await _say_end(wire)

    def swallow(self) -> None:
        """A black hole: connections stay open, and nothing arrives any more, in either direction."""
        for wire in self._wires:
            wire.swallows = True

    # -- connections -----------------------------------------------------------------------------

    async def listen(self, host: str, port: int) -> str:
        """Serve on loopback for a server there; returns `host:port`."""
        serve = partial(self._serve, host, port)
        listeners: list[trio.SocketListener] = await self._nursery.start(
            partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
        )
        return f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"

    async def _serve(self, host: str, port: int, near: trio.SocketStream) -> None:
        if self.dead:
            _no_linger(near)
            near.socket.close()
            return
        try:
            far = await trio.open_tcp_stream(host, port)
        except OSError:
            await trio.aclose_forcefully(near)
            return
        await self._join(near, far)

    def through(self, dial: Dialler) -> Dialler:
        """Another dialler, through this proxy, in memory."""

        async def dialled(address: Address) -> trio.abc.Stream:
            if self.dead:
                raise ConnectionRefusedError(address.host)
            far = await dial(address)
            near, ours = memory_stream_pair()
            self._nursery.start_soon(self._join, ours, far)
            return near

        return dialled

    async def _join(self, near: trio.abc.Stream, far: trio.abc.Stream) -> None:
        wire = _Wire(near, far)
        self._wires.add(wire)
        self.made += 1
        try:
            with wire.ended:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pump, wire, near, far)
                    nursery.start_soon(self._pump, wire, far, near)
        finally:
            self._wires.discard(wire)
            try:
                await trio.aclose_forcefully(near)
            finally:  # the first close says that we are cancelled
                await trio.aclose_forcefully(far)

    async def _pump(self, wire: _Wire, source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
        try:
            while data := await source.receive_some(CHUNK):
                size = self.slice or len(data)
                for at in range(0, len(data), size):
                    if self.delay:
                        await trio.sleep(self.delay)
                    if wire.swallows:
                        break
                    await sink.send_all(data[at : at + size])
        except GONE:
            pass
        if source is wire.near:
            wire.ended.cancel()
        elif not wire.swallows:  # a black hole does not even say that the server left
            await _say_end(wire)


async def _say_end(wire: _Wire) -> None:
    """The client hears that nothing more will come; what it has not read yet it still gets."""
    try:
        assert isinstance(wire.near, trio.abc.HalfCloseableStream)
        await wire.near.send_eof()
    except (*GONE, trio.BusyResourceError):
        wire.ended.cancel()


def _no_linger(stream: trio.abc.Stream) -> None:
    """Make the close an RST."""
    if isinstance(stream, trio.SocketStream):
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@asynccontextmanager
async def open_chaos() -> AsyncIterator[Chaos]:
    """A proxy for as long as the block lasts."""
    async with trio.open_nursery() as nursery:
        yield Chaos(nursery)
        nursery.cancel_scope.cancel()
