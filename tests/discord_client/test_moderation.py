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
from ccm.discord import DiscordSettings, Gateway, Moderator
from ccm.discord._requests import Requests
from ccm.discord._rest import Rest
from tests.discord_client.bridge_kit import Rest as Server
from tests.discord_client.commands_kit import bot
from tests.discord_fake.fake import CHANNEL, GUILD, open_fake

pytestmark = pytest.mark.trio
BAD = ccm.matches(r"discord\.gg/")


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


@pytest.mark.parametrize("restarted", [False, True])
async def test_an_edit_is_moderated_like_a_new_message(restarted: bool) -> None:
    """What was answered long ago, also by an earlier process, and is edited into what is forbidden."""

    def routes(gateway: Gateway) -> ccm.Router:
        router = ccm.Router()
        router.route(
            "moderation", when=BAD, priority=ccm.CRITICAL, ordered=False, answers=False, rate_limited=False,
            edits=True,
        )(Moderator(gateway.rest))  # fmt: skip

        @router.route("chat", when=lambda message: "hello" in message.text)
        async def chat(turn: ccm.Turn) -> str:
            return f"re {turn.text}"

        return router

    async with open_fake(identify_spacing=0.0) as fake:
        world = fake.world
        stranger = world.user("stranger")
        world.guilds[GUILD].members[stranger["id"]] = {"user": stranger}
        made: list[str] = []
        warning = "Please do not post that here."

        def texts() -> list[str]:
            return [each["content"] for each in world.messages[CHANNEL].values()]

        async def greet() -> None:
            for number in range(2):
                made.append(world.say(f"hello {number}", author=stranger)["id"])
                await fake.until(lambda text=f"re hello {number}": text in texts())  # type: ignore[misc]

        async def turn_bad() -> None:
            for id in made:
                world.edit(CHANNEL, id, content="hello, come to discord.gg/abc")
                await fake.until(lambda id=id: id not in world.messages[CHANNEL])  # type: ignore[misc]
            await fake.until(lambda: any("members" in path for _, path, _ in world.audit))
            await fake.until(lambda: texts().count(warning) == 2)

        async with bot((), routes, fake=fake):
            await greet()
            if not restarted:
                await turn_bad()
        if restarted:
            async with bot((), routes, fake=fake):
                await turn_bad()
        assert [(method, reason) for method, _, reason in world.audit] == [
            ("DELETE", "moderation by ccm"), ("DELETE", "moderation by ccm"), ("PATCH", "moderation by ccm"),
        ]  # fmt: skip
        assert world.guilds[GUILD].members[stranger["id"]]["communication_disabled_until"]
        assert [text for text in texts() if not text.startswith("re ")] == [warning, warning]
