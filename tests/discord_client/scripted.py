"""A gateway that does what a test says: each connection is handed to the test, which plays the server."""

from __future__ import annotations

import json
import zlib
from typing import Any

import trio
from trio.testing import memory_stream_pair
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from ccm.discord._dial import Address

FIRST = "ws://first.example"
RESUME = "ws://resume.example"
INTERVAL = 40.0
BOT = {"id": "1", "username": "bot"}


class Peer:
    """One connection, seen from the server."""

    def __init__(self, socket: WebSocketConnection, path: str, headers: dict[str, str], host: str) -> None:
        self.socket = socket
        self.path = path
        self.headers = headers
        self.host = host
        self.over = trio.Event()
        self._deflate = zlib.compressobj() if "zlib-stream" in path else None

    async def raw(self, data: str | bytes) -> None:
        if self._deflate is not None:
            data = data.encode() if isinstance(data, str) else data
            data = self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        await self.socket.send_message(data)

    async def send(self, op: int, data: Any = None, **more: Any) -> None:
        await self.raw(json.dumps({"op": op, "d": data, **more}))

    async def dispatch(self, kind: str, seq: int | None, data: Any = None) -> None:
        await self.send(0, data, s=seq, t=kind)

    async def receive(self) -> tuple[int, Any]:
        payload = json.loads(await self.socket.get_message())
        return payload["op"], payload["d"]

    async def expect(self, op: int) -> Any:
        found, data = await self.receive()
        assert found == op, (found, data)
        return data

    async def hello(self, interval: float = INTERVAL) -> None:
        await self.send(10, {"heartbeat_interval": interval * 1000})

    async def begin(self, session: str = "s", seq: int = 1, interval: float = INTERVAL) -> Any:
        """HELLO, IDENTIFY, READY; returns what IDENTIFY said."""
        await self.hello(interval)
        op, told = await self.receive()
        while op == 1:  # it may have to wait before it may identify itself, and its heart beats
            await self.send(11)
            op, told = await self.receive()
        assert op == 2, (op, told)
        ready = {"session_id": session, "resume_gateway_url": RESUME, "user": BOT, "guilds": [{"id": "7"}]}
        await self.dispatch("READY", seq, ready)
        return told

    async def resume(self, interval: float = INTERVAL) -> Any:
        """HELLO and RESUME; returns what RESUME said."""
        await self.hello(interval)
        return await self.expect(6)

    async def close(self, code: int) -> None:
        with trio.move_on_after(1):
            await self.socket.aclose(code)
        self.over.set()

    async def vanish(self) -> None:
        """Hang up without a word."""
        await trio.aclose_forcefully(self.socket._stream)
        self.over.set()

    async def closed_with(self) -> int | None:
        """Answer heartbeats until the client closes; returns its code."""
        try:
            while True:
                op, _ = await self.receive()
                if op == 1:
                    await self.send(11)
        except ConnectionClosed as closed:
            self.over.set()
            return None if closed.reason is None else closed.reason.code


class Scripted:
    """Serves on streams in memory through `dial`, or on sockets through `serve`.

    Attributes:
        dead: hosts that refuse connections.
        dialled: time, host and query of every attempt.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._arrived, self._arrivals = trio.open_memory_channel[Peer](100)
        self.dead: set[str] = set()
        self.silent: set[str] = set()
        self.dialled: list[tuple[float, str, str]] = []

    async def dial(self, address: Address) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.dialled.append((trio.current_time(), address.host, address.resource))
        if address.host in self.dead:
            raise ConnectionRefusedError(address.host)
        theirs, ours = memory_stream_pair()
        if address.host in self.silent:
            await ours.aclose()
        else:
            self._nursery.start_soon(self.serve, ours, address.host)
        return theirs

    async def serve(self, stream: trio.abc.Stream, host: str = "") -> None:
        try:
            async with trio.open_nursery() as nursery:
                request = await wrap_server_stream(nursery, stream)
                headers = {key.decode().lower(): value.decode() for key, value in request.headers}
                peer = Peer(await request.accept(), request.path, headers, host)
                await self._arrived.send(peer)
                await peer.over.wait()
                nursery.cancel_scope.cancel()
        except* (ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def next(self) -> Peer:
        """The next connection that is made."""
        return await self._arrivals.receive()
