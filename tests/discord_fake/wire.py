"""The REST client with its real HTTP, on streams in memory: what breaks a connection breaks it here, too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, final

import httpcore2
import httpx2
import trio
from httpcore2._backends.trio import TrioStream
from trio.testing import memory_stream_pair

from ccm.discord import DiscordSettings, Rest
from ccm.discord._dial import Address, Dialler
from ccm.discord._requests import Requests

from .fake import FakeDiscord
from .http import serve_http

__all__ = ["dialler", "open_wired"]


@final
class _Stream(TrioStream):
    def get_extra_info(self, info: str) -> Any:
        if info != "is_readable":
            return None
        # What tells the pool that the other side has left a connection that nobody uses.
        incoming = self._stream.receive_stream._incoming  # type: ignore[attr-defined]
        return bool(incoming._data or incoming._closed)


@final
class _Backend(httpcore2.AsyncNetworkBackend):
    def __init__(self, dial: Dialler) -> None:
        self._dial = dial

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None,  # noqa: ASYNC109 - it is theirs
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:  # fmt: skip
        try:
            return _Stream(await self._dial(Address(False, host, port, "/")))
        except OSError as error:
            raise httpcore2.ConnectError(str(error)) from error

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


def dialler(fake: FakeDiscord, nursery: trio.Nursery) -> Dialler:
    """Connects to the API; its side of the connection lives in `nursery`."""

    async def dial(address: Address) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        theirs, ours = memory_stream_pair()
        nursery.start_soon(serve_http, fake.api, fake.faults, ours)
        return theirs

    return dial


@asynccontextmanager
async def open_wired(settings: DiscordSettings, dial: Dialler) -> AsyncIterator[Rest]:
    """As `ccm.discord.open_rest` does, but with these connections."""
    transport = httpx2.AsyncHTTPTransport(verify=False)
    # A kept connection ages on the wall clock, which does not move here.
    transport._pool = httpcore2.AsyncConnectionPool(
        network_backend=_Backend(dial), max_connections=None, keepalive_expiry=None,
        max_keepalive_connections=settings.concurrency,
    )  # fmt: skip
    headers = {"User-Agent": settings.user_agent}
    timeout = httpx2.Timeout(settings.request_timeout, pool=None)
    async with httpx2.AsyncClient(transport=transport, headers=headers, timeout=timeout) as client:
        yield Rest(Requests(settings, client))
