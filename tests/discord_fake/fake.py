"""A Discord of one bot, for tests: gateway and REST API, on loopback sockets or in memory.

    async with open_fake(heartbeat_interval=0.5) as fake:  # see `Rules`; `memory=True` needs no network
        async with fake.open_gateway(intents=...) as gateway:  # of ccm; others use fake.api_url
            ready = await anext(gateway)
            fake.world.say("hello")  # a person in the guild's channel says something
            event = await anext(gateway)
            await gateway.rest.create_message(CHANNEL, "hi")
            fake.cut()  # every connection is dropped; also: close(4009), reconnect(), invalidate(False)
            fake.faults.refuse_resume = True  # see `Faults`
            fake.api.turn_away("global", 0.5)  # also: fail(502), lose()
            fake.hub.links, fake.api.seen, fake.world.messages  # what clients did

In memory everything runs on Trio's clock, so `ccm.testing.simulate` makes it virtual. What the fake decides
where Discord's documentation says nothing stands in `sessions` (gateway) and `rest` (429 without `Via`).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, final
from urllib.parse import parse_qsl, urlsplit

import httpx2
import trio
from trio.testing import memory_stream_pair
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, wrap_server_stream

import ccm.discord
from ccm.discord import DiscordSettings, Gateway, Rest
from ccm.discord._dial import Address, dial_tcp
from ccm.discord._requests import Requests

from . import rules as _rules
from .http import InMemory, serve_http
from .packing import Packer
from .rest import PREFIX, Api
from .sessions import Hangup, Hub, Link
from .world import CHANNEL, GUILD, World

__all__ = ["CHANNEL", "GUILD", "FakeDiscord", "open_fake"]

HOSTS: Final = ("gateway", "resume")
CLOSE_WITHIN: Final = 1.0
FAR: Final = 3.6e9
"""When it is in memory, in 2084: nothing that is told there is ever in the past of a client's clock."""
GONE: Final = (
    ConnectionClosed,
    HandshakeError,
    OSError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)


@final
class FakeDiscord:
    """Made by `open_fake`.

    Attributes:
        rules, faults: may be changed at any time.
        world, hub, api: what there is, the gateway's and the API's state.
        gateway_url, resume_url, api_url: where it is.
    """

    def __init__(self, rules: _rules.Rules, nursery: trio.Nursery, *, memory: bool) -> None:
        self.rules = rules
        self.faults = _rules.Faults()
        self.memory = memory
        self.gateway_url, self.resume_url = (f"ws://{host}.fake" for host in HOSTS)
        self.api_url = f"http://api.fake{PREFIX}"
        self._nursery = nursery
        self._began = time.time() - trio.current_time() if not memory else FAR
        self.hub = Hub(rules, self.faults)
        self.world = World(self.wall, self.hub.tell)
        self.hub.world = self.world
        self.api = Api(rules, self.world, self.hub)
        self._point()

    def _point(self) -> None:
        self.hub.resume_url, self.api.gateway_url = self.resume_url, self.gateway_url

    def wall(self) -> float:
        """Seconds since 1970."""
        return self._began + trio.current_time()

    # -- what a test may do to connections -------------------------------------------------------

    @property
    def links(self) -> list[Link]:
        """Connections that are open, in the order they were made in."""
        return [link for link in self.hub.links if not link.closing]

    def cut(self) -> None:
        """Drop every connection without a word."""
        self.close(None)

    def close(self, code: int | None) -> None:
        """Close every connection with this code."""
        for link in self.links:
            link.close(code)

    def reconnect(self) -> None:
        """Op 7 for all."""
        for link in self.links:
            link.say(7)

    def invalidate(self, resumable: bool) -> None:
        """Op 9 for all."""
        for link in self.links:
            link.invalidate(resumable)

    def ask_for_heartbeats(self) -> None:
        """Op 1 for all."""
        for link in self.links:
            link.say(1)

    async def until(self, condition: Callable[[], object], seconds: float = 10.0) -> None:
        """Wait until something is so.

        Raises:
            trio.TooSlowError: it did not come about.
        """
        with trio.fail_after(seconds):
            while not condition():  # noqa: ASYNC110  # whatever a test may ask
                await trio.sleep(1 / 64)

    # -- clients of ccm --------------------------------------------------------------------------

    def settings(self, **more: Any) -> DiscordSettings:
        """Settings that lead here."""
        return DiscordSettings(**{"token": self.rules.token, "api_url": self.api_url, **more})

    @asynccontextmanager
    async def open_rest(self, **settings: Any) -> AsyncIterator[Rest]:
        """`ccm.discord.open_rest`."""
        chosen = self.settings(**settings)
        if self.memory:
            transport = InMemory(self.api, self.faults)
            headers = {"User-Agent": chosen.user_agent}
            timeout = httpx2.Timeout(chosen.request_timeout, pool=None)
            async with httpx2.AsyncClient(transport=transport, headers=headers, timeout=timeout) as client:
                yield Rest(Requests(chosen, client))
        else:
            async with ccm.discord.open_rest(chosen) as rest:
                yield rest

    @asynccontextmanager
    async def open_gateway(self, **settings: Any) -> AsyncIterator[Gateway]:
        """`ccm.discord.open_gateway`."""
        async with self.open_rest(**settings) as rest:
            dial = self.dial if self.memory else dial_tcp
            async with ccm.discord.open_gateway(self.settings(**settings), rest=rest, dial=dial) as gateway:
                yield gateway

    async def dial(self, address: Address) -> trio.abc.Stream:
        """A stream to the gateway in memory."""
        await trio.lowlevel.checkpoint()
        host = address.host.removesuffix(".fake")
        if host in self.faults.dead:
            raise ConnectionRefusedError(address.host)
        theirs, ours = memory_stream_pair()
        self._nursery.start_soon(self.serve_gateway, host, ours)
        return theirs

    # -- serving ---------------------------------------------------------------------------------

    async def listen(self) -> None:
        """Serve on loopback; returns when clients may come."""
        urls = []
        handlers = [partial(self.serve_gateway, host) for host in HOSTS]
        for handler in (*handlers, partial(serve_http, self.api, self.faults)):
            listeners: list[trio.SocketListener] = await self._nursery.start(
                partial(trio.serve_tcp, handler, 0, host="127.0.0.1")
            )
            urls.append(f"127.0.0.1:{listeners[0].socket.getsockname()[1]}")
        self.gateway_url, self.resume_url = (f"ws://{url}" for url in urls[:2])
        self.api_url = f"http://{urls[2]}{PREFIX}"
        self._point()

    async def serve_gateway(self, host: str, stream: trio.abc.Stream) -> None:
        """One connection to the gateway."""
        async with stream:
            if host in self.faults.silent:
                await trio.sleep_forever()
            if host in self.faults.dead:
                return
            try:
                async with trio.open_nursery() as nursery:
                    request = await wrap_server_stream(nursery, stream)
                    socket = await request.accept()
                    query = dict(parse_qsl(urlsplit(request.path).query))
                    await self._talk(socket, host, query)
                    nursery.cancel_scope.cancel()
            except* GONE:
                pass

    async def _talk(self, socket: WebSocketConnection, host: str, query: dict[str, str]) -> None:
        doorbell = trio.Event()
        alarm = trio.CancelScope()

        def wake() -> None:
            doorbell.set()

        link = self.hub.open(host, query, trio.current_time(), wake)
        code: int | None = None

        async def read() -> None:
            nonlocal code
            try:
                while True:
                    link.receive(await socket.get_message(), trio.current_time())
                    alarm.deadline = link.next_deadline()
            except ConnectionClosed as closed:
                code = None if closed.reason is None else closed.reason.code
            nursery.cancel_scope.cancel()

        async def watch() -> None:
            nonlocal alarm
            while True:
                with trio.CancelScope(deadline=link.next_deadline()) as alarm:
                    await trio.sleep_forever()
                link.tick(trio.current_time())

        async def write() -> None:
            nonlocal doorbell
            packer = Packer(query.get("compress", ""))
            while True:
                while link.out:
                    if self.faults.stalled or self.faults.gateway_latency:
                        await self._hold()
                    entry = link.out.popleft()
                    if isinstance(entry, Hangup):
                        await self._hang_up(socket, entry.code)
                        nursery.cancel_scope.cancel()
                        return
                    await socket.send_message(self._packed(packer, entry))
                doorbell = trio.Event()
                await doorbell.wait()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                nursery.start_soon(watch)
                nursery.start_soon(write)
                link.begin()
        finally:
            link.gone(code, trio.current_time())

    async def _hold(self) -> None:
        await trio.sleep(self.faults.gateway_latency)
        while self.faults.stalled:  # noqa: ASYNC110  # a plain switch for tests
            await trio.sleep(1 / 64)

    def _packed(self, packer: Packer, text: str) -> str | bytes:
        if self.faults.corrupt > 0:
            self.faults.corrupt -= 1
            self.hub.withheld.append(text)
            return packer.broken()
        return packer.pack(text)

    async def _hang_up(self, socket: WebSocketConnection, code: int | None) -> None:
        if code is None:
            await trio.aclose_forcefully(socket._stream)
        else:
            with trio.move_on_after(CLOSE_WITHIN):
                await socket.aclose(code)


@asynccontextmanager
async def open_fake(*, memory: bool = False, **rules: Any) -> AsyncIterator[FakeDiscord]:
    """A fake Discord for as long as the block lasts.

    Args:
        memory: serve streams in memory instead of sockets.
        rules: of `Rules`.
    """
    async with trio.open_nursery() as nursery:
        fake = FakeDiscord(_rules.Rules(**rules), nursery, memory=memory)
        if not memory:
            await fake.listen()
        yield fake
        nursery.cancel_scope.cancel()
