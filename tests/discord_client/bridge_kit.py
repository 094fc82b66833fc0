"""A bot behind a bridge, against a scripted gateway and a small REST server, all on real sockets."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h11
import trio

import ccm
from ccm.discord import Bridge, DiscordSettings, Gateway, open_gateway
from ccm.storage import Storage
from tests.discord_client.scripted import BOT, Peer, Scripted

AUTHOR = {"id": "9", "username": "ada"}


class Rest:
    """Keeps messages by channel, and nonces, as Discord does.

    Attributes:
        messages: what is there, by id.
        calls: method and path of each request, in order.
        reasons: for the audit log, of each request, "" without.
        refuse: path -> status and code to refuse it with.
        history: channel -> what GET messages returns, or the status it is refused with.
    """

    def __init__(self) -> None:
        self.messages: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, str]] = []
        self.bodies: list[Any] = []
        self.reasons: list[str] = []
        self.refuse: dict[str, tuple[int, int]] = {}
        self.history: dict[str, Any] = {}
        self.changed = trio.Event()
        self._nonces: dict[str, str] = {}
        self._ids = itertools.count(1_000)

    def texts(self) -> list[str]:
        return [message["content"] for message in self.messages.values()]

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        self.calls.append((method, path))
        self.bodies.append(body)
        parts = path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["users", "@me"]:
            return 200, BOT
        for refused, (status, code) in self.refuse.items():
            if path.startswith(refused) and method != "GET":
                return status, {"code": code, "message": "refused"}
        if parts[0] != "channels" or parts[2] != "messages" or "reactions" in parts:
            return 204, None
        if method == "GET":
            found: Any = self.history.get(parts[1], [])
            if isinstance(found, int):
                return found, {"code": 0, "message": "refused"}
            return 200, found
        if method == "POST":
            key = body["nonce"]
            if key not in self._nonces:
                id = self._nonces[key] = str(next(self._ids))
                self.messages[id] = {**body, "id": id, "channel_id": parts[1], "author": BOT}
            return 200, self.messages[self._nonces[key]]
        if parts[3] not in self.messages:
            return 404, {"code": 10_008, "message": "Unknown Message"}
        if method == "DELETE":
            del self.messages[parts[3]]
            return 204, None
        self.messages[parts[3]]["content"] = body["content"]
        return 200, self.messages[parts[3]]

    async def serve(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        request: Any = None
        content = b""
        async with stream:
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    try:
                        connection.receive_data(await stream.receive_some(65_536))
                    except trio.BrokenResourceError:
                        return
                elif isinstance(event, h11.Request):
                    request, content = event, b""
                elif isinstance(event, h11.Data):
                    content += event.data
                elif isinstance(event, h11.EndOfMessage):
                    body = json.loads(content) if content else None
                    self.reasons.append(dict(request.headers).get(b"x-audit-log-reason", b"").decode())
                    status, found = self.answer(request.method.decode(), request.target.decode(), body)
                    self.changed.set()
                    self.changed = trio.Event()
                    data = b"" if found is None else json.dumps(found).encode()
                    head = [] if status == 204 else [("content-length", str(len(data))), ("via", "1.1 x")]
                    out = connection.send(h11.Response(status_code=status, headers=head)) or b""
                    if data:
                        out += connection.send(h11.Data(data=data)) or b""
                    out += connection.send(h11.EndOfMessage()) or b""
                    await stream.send_all(out)
                    connection.start_next_cycle()
                elif isinstance(event, h11.ConnectionClosed):
                    return


class Stage:
    """What a test plays on: the server's side of the gateway, and REST; and what the bot is made of."""

    def __init__(
        self,
        server: Scripted,
        peer: Peer,
        rest: Rest,
        gateway: Gateway,
        manager: ccm.ConversationManager,
        bridge: Bridge,
    ) -> None:
        self.server = server
        self.peer = peer
        self.rest = rest
        self.gateway = gateway
        self.manager = manager
        self.bridge = bridge
        self.seq = 1

    async def event(self, kind: str, data: Any) -> None:
        self.seq += 1
        await self.peer.dispatch(kind, self.seq, data)

    async def lose_the_session(self) -> None:
        """It ends, and a new one begins."""
        await self.peer.close(4009)
        self.peer = await self.server.next()
        self.seq = 1
        await self.peer.begin(session="t")

    def missed(self, id: int, text: str, channel: str = "5") -> None:
        """Something is said that the gateway does not tell."""
        message = {"id": str(id), "channel_id": channel, "author": AUTHOR, "content": text, "type": 0}
        self.rest.history.setdefault(channel, []).append(message)

    async def say(self, id: int, text: str, **more: Any) -> None:
        message = {"id": str(id), "channel_id": "5", "author": AUTHOR, "content": text, "type": 0, **more}
        await self.event("MESSAGE_CREATE", message)

    async def wait(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds; it is looked at after each request."""
        with trio.fail_after(20):
            while not holds():
                await self.rest.changed.wait()

    async def until(self, *texts: str) -> None:
        """Wait until the bot's messages are exactly these."""
        await self.wait(lambda: self.rest.texts() == list(texts))

    async def called(self, method: str, path: str) -> None:
        await self.wait(lambda: (method, path) in self.rest.calls)


@asynccontextmanager
async def stage(
    handler: Any,
    *,
    storage: Path | Storage | None = None,
    config: ccm.Config | None = None,
    rest: Rest | None = None,
    **bridge: Any,
) -> AsyncIterator[Stage]:
    """A bot that answers with `handler`, live; `rest` may be that of another one before it."""
    rest = Rest() if rest is None else rest
    async with trio.open_nursery() as nursery:
        server = Scripted(nursery)
        [rest_listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        [gate_listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, rest.serve, [rest_listener])
        nursery.start_soon(trio.serve_listeners, server.serve, [gate_listener])
        ports = [listener.socket.getsockname()[1] for listener in (rest_listener, gate_listener)]
        settings = DiscordSettings(
            token="t0ken", compress=None, acknowledge=True, api_url=f"http://127.0.0.1:{ports[0]}",
            gateway_url=f"ws://127.0.0.1:{ports[1]}", disconnect_timeout=0.1, attempts=1,
        )  # fmt: skip
        async with open_gateway(settings) as gateway:
            bot = Bridge(gateway, **bridge)
            opened = ccm.open_manager(handler, storage=storage, config=config, deliver=bot.deliver)
            async with opened as manager, trio.open_nursery() as inner:
                inner.start_soon(bot.run, manager)
                peer = await server.next()
                await peer.begin()
                yield Stage(server, peer, rest, gateway, manager, bot)
                inner.cancel_scope.cancel()
        nursery.cancel_scope.cancel()
