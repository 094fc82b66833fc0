"""What a moderator does, on real sockets."""

from __future__ import annotations

import httpx2
import pytest
import trio

import ccm
from ccm.discord import DiscordSettings, Moderator
from ccm.discord._requests import Requests
from ccm.discord._rest import Rest
from tests.discord_client.bridge_kit import Rest as Server

pytestmark = pytest.mark.trio


async def test_it_deletes_warns_and_silences_who_goes_on() -> None:
    server = Server()
    server.refuse["/channels/5/messages/11"] = (403, 50_013)  # it may not delete that one, and goes on
    async with trio.open_nursery() as nursery, httpx2.AsyncClient() as client:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, server.serve, [listener])
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        rest = Rest(Requests(DiscordSettings(token="t0ken", api_url=url), client))
        router = ccm.Router()
        moderation = Moderator(rest, time_outs=(0, 60))
        router.route("moderation", answers=False, ordered=False, rate_limited=False)(moderation)
        async with ccm.open_manager(router) as manager:
            for id in ("11", "12"):
                metadata = {"discord": "5"}
                await manager.ask(ccm.Message("5", "9", "bad", id=id, tenant="7", metadata=metadata))
        nursery.cancel_scope.cancel()
    assert server.calls == [
        ("DELETE", "/channels/5/messages/11"), ("POST", "/channels/5/messages"),
        ("DELETE", "/channels/5/messages/12"), ("POST", "/channels/5/messages"),
        ("PATCH", "/guilds/7/members/9"),
    ]  # fmt: skip
    assert server.bodies[-1]["communication_disabled_until"]
