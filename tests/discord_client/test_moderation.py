"""What a moderator does, on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import httpx2
import pytest
import trio

import ccm
from ccm.discord import DiscordSettings, Moderator
from ccm.discord._requests import Requests
from ccm.discord._rest import Rest
from tests.discord_client.bridge_kit import Rest as Server

pytestmark = pytest.mark.trio


@asynccontextmanager
async def moderated(
    server: Server, time_outs: tuple[float, ...], *, failures: int = 0
) -> AsyncIterator[ccm.ConversationManager]:
    """A manager whose only route is moderation; `failures`: so often it is done and fails then."""
    async with trio.open_nursery() as nursery, httpx2.AsyncClient() as client:
        serve = partial(trio.serve_tcp, server.serve, 0, host="127.0.0.1")
        [listener] = await nursery.start(serve)
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        moderator = Moderator(
            Rest(Requests(DiscordSettings(token="t0ken", api_url=url), client)), time_outs=time_outs
        )

        async def moderate(turn: ccm.Turn) -> None:
            await moderator(turn)
            if turn.attempt <= failures:
                raise OSError("just now")

        router = ccm.Router()
        router.route("moderation", answers=False, ordered=False, rate_limited=False)(moderate)
        async with ccm.open_manager(router) as manager:
            yield manager
        nursery.cancel_scope.cancel()


def said(id: str) -> ccm.Message:
    return ccm.Message("5", "9", "bad", id=id, tenant="7", metadata={"discord": "5"})


async def test_it_deletes_warns_and_silences_who_goes_on() -> None:
    server = Server()
    server.refuse["/channels/5/messages/11"] = (403, 50_013)  # it may not delete that one, and goes on
    async with moderated(server, (0, 60)) as manager:
        for id in ("11", "12"):
            await manager.ask(said(id))
    assert server.calls == [
        ("DELETE", "/channels/5/messages/11"), ("POST", "/channels/5/messages"),
        ("DELETE", "/channels/5/messages/12"), ("POST", "/channels/5/messages"),
        ("PATCH", "/guilds/7/members/9"),
    ]  # fmt: skip
    assert server.bodies[-1]["communication_disabled_until"]
    why = "moderation%20by%20ccm"
    assert server.reasons == [why, "", why, "", why]


async def test_nobody_is_silenced_for_longer_than_discord_allows() -> None:
    server = Server()
    with pytest.raises(ValueError, match="28 days"):
        Moderator(None, time_outs=(0, 28 * 86_400 + 1))  # type: ignore[arg-type]  # nothing is asked
    async with moderated(server, (28 * 86_400,)) as manager:
        await manager.ask(said("11"))
    until = datetime.fromisoformat(server.bodies[-1]["communication_disabled_until"])
    assert 0 <= datetime.now(UTC).timestamp() + 28 * 86_400 - until.timestamp() < 60


async def test_a_message_that_is_moderated_again_counts_once() -> None:
    server = Server()
    async with moderated(server, (0, 60), failures=1) as manager:
        await manager.ask(said("11"))
        await manager.wait_idle()
    calls = [("DELETE", "/channels/5/messages/11"), ("POST", "/channels/5/messages")]
    assert server.calls == calls * 2
    assert len(server.texts()) == 1  # the warning has the same nonce
