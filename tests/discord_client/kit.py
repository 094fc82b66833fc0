"""Runs a script against an open gateway, on virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from ccm.discord import (
    DiscordSettings,
    Event,
    Gateway,
    Ready,
    open_gateway,
)
from ccm.testing import simulate
from tests.discord_client.scripted import FIRST, Peer, Scripted

Play = Callable[[Scripted, Gateway], Awaitable[None]]
MESSAGE = "MESSAGE_CREATE"


def settings(**more: Any) -> DiscordSettings:
    return DiscordSettings(**{"token": "t0ken", "gateway_url": FIRST, "compress": None, **more})


def play(script: Play, *, dead: bool = False, limit: float = 7200.0, **more: Any) -> Scripted:
    """Run a script with an open gateway; returns the server."""

    async def main() -> Scripted:
        async with trio.open_nursery() as nursery:
            server = Scripted(nursery)
            if dead:
                server.dead.add("first.example")
            async with open_gateway(settings(**more), dial=server.dial) as gateway:
                await script(server, gateway)
            nursery.cancel_scope.cancel()
        return server

    return simulate(main, limit=limit)


async def ready(server: Scripted, gateway: Gateway, **more: Any) -> Peer:
    peer = await server.next()
    await peer.begin(**more)
    assert isinstance(await anext(gateway), Ready)
    return peer


async def text(gateway: Gateway) -> Any:
    event = await anext(gateway)
    assert isinstance(event, Event), event
    return event.data
