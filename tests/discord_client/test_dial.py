"""The streams below a gateway: TLS, and a peer that takes half a frame and no more."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from ccm.discord import Gateway, Ready, Resumed, open_gateway
from ccm.discord._dial import Address, dial_tcp, parse
from ccm.testing import simulate
from tests.discord_client.kit import MESSAGE, ready, settings, text
from tests.discord_client.scripted import Scripted

CERTIFICATE = Path(__file__).with_name("localhost.pem")
"""Signed by itself, with its key, until 2126."""


# -- TLS -------------------------------------------------------------------------------------------


def over_tls(script: Callable[[Scripted, Gateway], Awaitable[None]]) -> None:
    async def main() -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(CERTIFICATE)
        async with trio.open_nursery() as nursery:
            server = Scripted(nursery)
            serve = partial(trio.serve_ssl_over_tcp, server.serve, 0, context, host="127.0.0.1")
            [listener] = await nursery.start(serve)
            url = f"wss://localhost:{listener.transport_listener.socket.getsockname()[1]}"
            with trio.fail_after(20):
                async with open_gateway(settings(gateway_url=url)) as gateway:
                    await script(server, gateway)
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_gateway_is_reached_over_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        peer = await server.next()
        await peer.begin()
        assert isinstance(await anext(gateway), Ready)
        await peer.dispatch(MESSAGE, 2, "x" * 100_000)
        assert await text(gateway) == "x" * 100_000

    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    over_tls(script)


def test_who_cannot_show_who_he_is_hears_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        with trio.move_on_after(1):
            await server.next()
            raise AssertionError("the token was about to be told to a stranger")
        assert gateway.statistics().connections == 0

    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    over_tls(script)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("wss://gateway.discord.gg/?v=10", (True, "gateway.discord.gg", 443, "gateway.discord.gg", "/?v=10")),
        ("ws://[::1]:80/?v=10", (False, "::1", 80, "[::1]", "/?v=10")),
        ("wss://h:80/a?b=c", (True, "h", 80, "h:80", "/a?b=c")),
    ],
)
def test_urls_are_taken_to_pieces(url: str, found: tuple[Any, ...]) -> None:
    address = parse(url)
    assert (address.tls, address.host, address.port, address.header, address.resource) == found


# -- what the sockets and the websocket are told ---------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
def test_a_peer_that_vanished_is_noticed_by_the_socket_too(
    tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heartbeats end the connection; keep-alive frees the socket below it, in either case."""

    async def serve(stream: trio.abc.Stream) -> None:
        with suppress(trio.BrokenResourceError):
            await stream.receive_some()

    async def main() -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(CERTIFICATE)
        async with trio.open_nursery() as nursery:
            plainly = partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
            secretly = partial(trio.serve_ssl_over_tcp, serve, 0, context, host="127.0.0.1")
            [listener] = await nursery.start(secretly if tls else plainly)
            plain = listener.transport_listener if tls else listener
            with trio.fail_after(20):
                port = plain.socket.getsockname()[1]
                stream = await dial_tcp(parse(f"{'wss' if tls else 'ws'}://localhost:{port}"))
            below = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
            assert isinstance(stream, trio.SSLStream) == tls
            assert isinstance(below, trio.SocketStream)
            assert below.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()

    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    trio.run(main)


class Asked(trio.abc.Stream):
    """Passes everything on, and notes how much it is asked for at a time."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.asked: set[int | None] = set()

    async def send_all(self, data: Any) -> None:
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        self.asked.add(max_bytes)
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.stream.aclose()


def test_a_burst_is_read_in_pieces_of_64_kib() -> None:
    """The websocket's own 4 KiB make a large READY seven times as slow."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            server, streams = Scripted(nursery), list[Asked]()

            async def dial(address: Address) -> trio.abc.Stream:
                streams.append(Asked(await server.dial(address)))
                return streams[-1]

            async with open_gateway(settings(), dial=dial) as gateway:
                peer = await ready(server, gateway)
                await peer.dispatch(MESSAGE, 2, "x" * 200_000)
                assert await text(gateway) == "x" * 200_000
            assert [stream.asked for stream in streams] == [{65_536}]
            nursery.cancel_scope.cancel()

    simulate(main, limit=100.0)


# -- a peer that does not read ---------------------------------------------------------------------


class Clogged(trio.abc.Stream):
    """Passes everything on until it is `full`; then half of what is sent, and nothing more."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.full = False
        self.after: list[bytes] = []

    async def send_all(self, data: Any) -> None:
        if not self.full:
            await self.stream.send_all(data)
            return
        self.after.append(bytes(data))
        await self.stream.send_all(data[: len(data) // 2])
        await trio.sleep_forever()

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.stream.aclose()


def test_after_half_a_frame_nothing_is_sent_and_the_session_goes_on_elsewhere() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            server, streams = Scripted(nursery), list[Clogged]()

            async def dial(address: Address) -> trio.abc.Stream:
                streams.append(Clogged(await server.dial(address)))
                return streams[-1]

            async with open_gateway(settings(), dial=dial) as gateway:
                await ready(server, gateway, interval=3000.0)
                streams[0].full = True
                began = trio.current_time()
                await gateway.send(3, {"status": "online"})
                again = await server.next()
                assert trio.current_time() == began + 5.0  # `send_timeout`, and no good-bye that nobody hears
                assert len(streams[0].after) == 1
                await again.resume()
                await again.dispatch("RESUMED", 2)
                assert await anext(gateway) == Resumed(0)
            nursery.cancel_scope.cancel()

    simulate(main, limit=100.0)
