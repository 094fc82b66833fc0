"""Requests of `ccm.discord` to the fake Discord: what is asked is done once, and no limit is overrun."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from ccm.discord import Rest, RestError, RestStopped, snowflake_at
from ccm.testing import simulate
from tests.discord_fake.fake import CHANNEL, GUILD, FakeDiscord, open_fake
from tests.discord_fake.world import APPLICATION, PERSON

Play = Callable[[FakeDiscord, Rest], Awaitable[None]]
CREATE = "POST /channels/{channel}/messages"


def play(script: Play, *, rules: Any = None, on_sockets: bool = False, **settings: Any) -> FakeDiscord:
    """Run a script with a client that is open; returns the server."""

    async def main() -> FakeDiscord:
        async with (
            open_fake(memory=not on_sockets, **(rules or {})) as fake,
            fake.open_rest(**settings) as rest,
        ):
            await script(fake, rest)
            rest.requests.limits._check()
        return fake

    return trio.run(main) if on_sockets else simulate(main, limit=7200.0)


def said(fake: FakeDiscord, channel: str = CHANNEL) -> list[str]:
    return [each["content"] for each in fake.world.messages.get(channel, {}).values()]


def statuses(fake: FakeDiscord) -> list[int]:
    return [each.status for each in fake.api.seen]


# -- everything that can be asked ------------------------------------------------------------------


@pytest.mark.parametrize("on_sockets", [False, True], ids=["memory", "sockets"])
def test_whatever_a_bot_does_is_done(on_sockets: bool) -> None:
    async def script(fake: FakeDiscord, rest: Rest) -> None:
        assert (await rest.me()).id == fake.world.bot["id"]
        assert (await rest.gateway_info()).url == fake.gateway_url
        asked = fake.world.say("?")
        message = await rest.create_message(CHANNEL, f"<@{PERSON}> one", reply_to=asked["id"])
        assert message.reply_to == asked["id"]
        assert message.mentions == ()
        assert (await rest.edit_message(CHANNEL, message.id, "two")).content == "two"
        await rest.typing(CHANNEL)
        await rest.react(CHANNEL, asked["id"], "👍")
        assert fake.world.messages[CHANNEL][asked["id"]]["reactions"][0]["emoji"]["name"] == "👍"
        await rest.delete_message(CHANNEL, message.id, reason="Größe")
        others = [fake.world.say(str(number))["id"] for number in range(3)]
        await rest.delete_messages(CHANNEL, others)
        assert said(fake) == ["?"]
        victim = fake.world.user("victim")
        guild = fake.world.guilds[GUILD]
        guild.members[victim["id"]] = {**guild.members[PERSON], "user": victim}
        await rest.time_out(GUILD, victim["id"], 28 * 86_400)
        assert guild.members[victim["id"]]["communication_disabled_until"]
        await rest.time_out(GUILD, victim["id"], 0)
        assert guild.members[victim["id"]]["communication_disabled_until"] is None
        fake.world.say("spam", author=victim)
        await rest.ban(GUILD, victim["id"], delete_seconds=60, reason="spam")
        assert list(guild.bans) == [victim["id"]]
        assert said(fake) == ["?"]
        assert [reason for _, _, reason in fake.world.audit] == ["Größe", "spam"]
        for where in (None, GUILD):
            await rest.set_commands(APPLICATION, [{"name": "stop", "description": "Stop."}], guild=where)
        assert {key: each[0]["name"] for key, each in fake.world.commands.items()} == {
            "": "stop",
            GUILD: "stop",
        }
        assert set(statuses(fake)) <= {200, 204}

    play(script, on_sockets=on_sockets)


def test_a_command_is_answered() -> None:
    async def script(fake: FakeDiscord, rest: Rest) -> None:
        asked = fake.world.ask("stop")
        with pytest.raises(RestError, match="10015"):
            await rest.follow_up(APPLICATION, asked.token, "too soon")
        await rest.respond(asked.id, asked.token)
        assert (await rest.edit_response(APPLICATION, asked.token, "done")).id == asked.original
        assert fake.world.messages[CHANNEL][asked.original]["flags"] == 0
        await rest.follow_up(APPLICATION, asked.token, "more")
        assert said(fake) == ["done", "more"]
        with pytest.raises(RestError, match="40060"):
            await rest.respond(asked.id, asked.token, "twice")
        late = fake.world.ask("stop")
        await trio.sleep(3)
        with pytest.raises(RestError, match="10062"):
            await rest.respond(late.id, late.token, "late")
        await trio.sleep(900)
        with pytest.raises(RestError, match="50027"):
            await rest.follow_up(APPLICATION, asked.token, "much too late")
        await rest.typing(CHANNEL)  # an interaction's token that is over says nothing about the bot's

    play(script)


def test_backfill_finds_what_was_said_meanwhile() -> None:
    async def script(fake: FakeDiscord, rest: Rest) -> None:
        fake.world.say("before")
        await trio.sleep(60)
        since = snowflake_at(fake.wall())
        await trio.sleep(1)
        for number in range(250):
            fake.world.say(str(number))
        found = await rest.messages_after(CHANNEL, since)
        assert [message.content for message in found] == [str(number) for number in range(250)]
        assert [m.content for m in await rest.messages_after(CHANNEL, since, limit=3)] == ["0", "1", "2"]

    play(script)


# -- a message is sent once ------------------------------------------------------------------------


@pytest.mark.parametrize("carried_out", [False, True])
@pytest.mark.parametrize("how", ["lost", 500, 502, 503])
@pytest.mark.parametrize("on_sockets", [False, True], ids=["memory", "sockets"])
def test_a_message_is_said_once_whatever_became_of_the_answer(
    how: str | int, carried_out: bool, on_sockets: bool
) -> None:
    async def script(fake: FakeDiscord, rest: Rest) -> None:
        if isinstance(how, int):
            fake.api.fail(how, times=2, carried_out=carried_out)
        else:
            fake.api.lose(times=2, carried_out=carried_out)
        message = await rest.create_message(CHANNEL, "once")
        assert said(fake) == ["once"]
        assert message.id in fake.world.messages[CHANNEL]
        await rest.create_message(CHANNEL, "once")
        assert said(fake) == ["once", "once"]

    play(script, on_sockets=on_sockets)


def test_a_long_text_is_said_whole_in_order_and_without_being_refused() -> None:
    async def script(fake: FakeDiscord, rest: Rest) -> None:
        text = "word " * 4000
        fake.api.fail(502, times=1, carried_out=True)
        sent = await rest.send_text(CHANNEL, text)
        assert "".join(said(fake)).split() == text.split()
        assert [message.id for message in sent] == list(fake.world.messages[CHANNEL])
        assert 429 not in statuses(fake)

    play(script)


# -- limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["user", "global", "shared", "proxied"])
def test_a_429_is_waited_for_as_long_as_it_says(scope: str) -> None:
    async def script(fake: FakeDiscord, rest: Rest) -> None:
        fake.api.turn_away(scope, 7.0)
        await rest.create_message(CHANNEL, "x")
        first, second = fake.api.seen
        assert (first.status, second.status) == (429, 200)
        assert 7.0 <= second.at - first.at < 8.0

    play(script)


def test_a_429_with_scope_shared_does_not_count_towards_the_ban() -> None:
    async def script(fake: FakeDiscord, rest: Rest) -> None:
        fake.api.turn_away("shared", 0.1, times=20)
        await rest.create_message(CHANNEL, "x", nonce="a")
        assert len(fake.api.limits.invalid) == 0

    play(script, max_invalid=5)


def test_cloudflares_429_is_not_asked_about_again() -> None:
    async def script(fake: FakeDiscord, rest: Rest) -> None:
        fake.api.turn_away("cloudflare", 3.0)
        for _ in range(3):
            with pytest.raises(RestStopped, match="Cloudflare"):
                await rest.typing(CHANNEL)
        assert statuses(fake) == [429]

    play(script)


def test_the_limits_are_kept_without_ever_being_told_off() -> None:
    async def script(fake: FakeDiscord, rest: Rest) -> None:
        guild = fake.world.guilds[GUILD]
        channels = [fake.world.channel(guild, f"c{number}") for number in range(20)]
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(10):
                for channel in channels:
                    nursery.start_soon(rest.create_message, channel, str(number))
        assert all(sorted(map(int, said(fake, channel))) == list(range(10)) for channel in channels)
        assert trio.current_time() - began < 30  # 10 messages are two windows of five seconds
        assert 429 not in statuses(fake)

    play(script, deadline=600.0, rules={"global_rate": 50})


def test_two_routes_of_one_bucket_share_its_limit() -> None:
    async def script(fake: FakeDiscord, rest: Rest) -> None:
        edit = "PATCH /channels/{channel}/messages/{message}"
        fake.api.limits.merged[edit] = CREATE
        fake.api.limits.routes[CREATE] = (3, 10.0)
        message = await rest.create_message(CHANNEL, "0")
        await rest.edit_message(CHANNEL, message.id, "1")
        for number in range(6):
            await rest.create_message(CHANNEL, str(number))
            await rest.edit_message(CHANNEL, message.id, str(number))
        assert 429 not in statuses(fake)

    play(script)


def test_a_wrong_token_is_tried_once() -> None:
    async def script(fake: FakeDiscord, rest: Rest) -> None:
        for _ in range(3):
            with pytest.raises(RestError):
                await rest.typing(CHANNEL)
        assert statuses(fake) == [401]

    play(script, token="wrong")


def test_a_bot_that_is_refused_over_and_over_is_not_banned() -> None:
    async def script(fake: FakeDiscord, rest: Rest) -> None:
        # The guild's owner cannot be timed out.
        for _ in range(200):
            with pytest.raises(RestError):
                await rest.time_out(GUILD, PERSON, 60)
        assert statuses(fake) == [403] * 50
        assert fake.api.limits.ban < 0

    play(script, max_invalid=50, rules={"invalid_limit": 100})


def test_the_end_of_an_outage_is_noticed() -> None:
    async def script(fake: FakeDiscord, rest: Rest) -> None:
        fake.api.fail(503, times=12)
        with pytest.raises(RestError):
            await rest.create_message(CHANNEL, "no", nonce="1")
        await trio.sleep(300)
        await rest.create_message(CHANNEL, "yes")
        assert said(fake) == ["yes"]

    play(script, attempts=12, deadline=60.0)
