"""Opens the streams that the gateway runs on."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import final
from urllib.parse import urlsplit

import trio

__all__ = ["Address", "Dialler", "WatchedStream", "dial_tcp", "parse"]

Dialler = Callable[["Address"], Awaitable[trio.abc.Stream]]


@final
class Address:
    """Where a gateway is: `tls`, `host`, `port`, the value of the `Host` header, and path with query."""

    __slots__ = ("header", "host", "port", "resource", "tls")

    def __init__(self, tls: bool, host: str, port: int, resource: str) -> None:
        self.tls = tls
        self.host = host
        self.port = port
        self.resource = resource
        name = f"[{host}]" if ":" in host else host
        self.header = name if port == (443 if tls else 80) else f"{name}:{port}"


def parse(url: str) -> Address:
    """Take a URL to pieces.

    Raises:
        ValueError: it is none that begins with ws:// or wss:// and names a host.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError(f"url must be ws://host or wss://host, got {url!r}")
    tls = parts.scheme == "wss"
    return Address(
        tls, parts.hostname, parts.port or (443 if tls else 80), f"{parts.path or '/'}?{parts.query}"
    )


async def dial_tcp(address: Address) -> trio.abc.Stream:
    """Connect, with TLS if the address says so. When cancelled, nothing is left open.

    Raises:
        OSError: nobody is there, or it is not who it says.
    """
    stream = await trio.open_tcp_stream(address.host, address.port)
    # A peer that vanished is noticed by its silence (heartbeats); this also frees the socket underneath.
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if not address.tls:
        return stream
    secure = trio.SSLStream(
        stream, ssl.create_default_context(), server_hostname=address.host, https_compatible=True
    )
    try:
        await secure.do_handshake()
    except trio.BrokenResourceError as error:
        await trio.aclose_forcefully(stream)
        raise OSError(f"no TLS with {address.host}: {error.__cause__ or error}") from None
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secure


@final
class WatchedStream(trio.abc.Stream):
    """Says when the peer is gone: a websocket whose peer leaves during the handshake would wait for ever.

    Args:
        stream: the stream.
        gone: called once, when nothing more will come.
    """

    def __init__(self, stream: trio.abc.Stream, gone: Callable[[], None]) -> None:
        self._stream = stream
        self._gone = gone

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._gone()
            raise
        if not data:
            self._gone()
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()
