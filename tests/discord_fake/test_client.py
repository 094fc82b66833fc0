"""`ccm.discord` against the fake Discord: in memory on virtual time, and the most important on sockets.

Nothing here says what the server answers: it decides by its own rules, with numbers, buckets and sessions of
its own, so what the client says must be right.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest
import trio

from ccm.discord import (
    Event,
    Gap,
    Gateway,
    GatewayClosed,
    IdentifyRefused,
    Intents,
    Ready,
    Resumed,
)
from ccm.testing import simulate
from tests.discord_fake.fake import FakeDiscord, open_fake

INTENTS = Intents.GUILDS | Intents.GUILD_MESSAGES | Intents.DIRECT_MESSAGES | Intents.MESSAGE_CONTENT
Play = Callable[[FakeDiscord, Gateway], Awaitable[None]]


def play(script: Play, *, rules: Any = None, on_sockets: bool = False, **settings: Any) -> None:
    """Run a script with a gateway that is open."""

    async def main() -> None:
        async with open_fake(memory=not on_sockets, **(rules or {})) as fake:
            with trio.fail_after(60 if on_sockets else 7200):
                async with fake.open_gateway(
                    intents=INTENTS, events={"MESSAGE_CREATE"}, **settings
                ) as gateway:
                    await script(fake, gateway)
            fake.hub._check()

    if on_sockets:
        trio.run(main)
    else:
        simulate(main, limit=7200.0)


async def take(gateway: Gateway, kind: Any) -> Any:
    """The next item, which must be of this kind."""
    item = await anext(gateway)
    assert isinstance(item, kind), item
    return item


async def hear(gateway: Gateway, *texts: str) -> None:
    """These messages come next, and, in between, only news of the connection."""
    heard: list[str] = []
    while len(heard) < len(texts):
        item = await anext(gateway)
        assert not isinstance(item, (Gap, Ready)), item
        if isinstance(item, Event):
            heard.append(item.data["content"])
    assert heard == list(texts)


def ops(fake: FakeDiscord) -> list[list[int]]:
    """IDENTIFY (2) and RESUME (6) on each connection."""
    return [[op for op, _ in link.heard if op in (2, 6)] for link in fake.hub.links]


# -- sessions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_sockets", [False, True], ids=["memory", "sockets"])
@pytest.mark.parametrize("compress", [None, "zlib-stream", "zstd-stream"])
def test_events_come_once_and_in_order_through_cuts(compress: str | None, on_sockets: bool) -> None:
    async def script(fake: FakeDiscord, gateway: Gateway) -> None:
        assert (await take(gateway, Ready)).guilds == tuple(fake.world.guilds)
        for number in range(5):
            fake.world.say(f"{number} before")
            if number:
                fake.cut() if number % 2 else fake.reconnect()
            fake.world.say(f"{number} meanwhile")
            await hear(gateway, f"{number} before", f"{number} meanwhile")
            await fake.until(lambda: fake.hub.live)
        assert ops(fake) == [[2], *[[6]] * 4]
        assert {link.host for link in fake.hub.links[1:]} == {"resume"}
        assert gateway.statistics().holes == 0

    play(script, on_sockets=on_sockets, compress=compress)


@pytest.mark.parametrize("how", ["cut", 1011, 4000, 4001, 4002, 4008, "op 7", "op 9 true"])
def test_what_a_session_survives(how: str | int) -> None:
    async def script(fake: FakeDiscord, gateway: Gateway) -> None:
        await take(gateway, Ready)
        if isinstance(how, int) or how == "cut":
            fake.close(None if how == "cut" else int(how))
        elif how == "op 7":
            fake.reconnect()
        else:
            fake.invalidate(True)
        fake.world.say("meanwhile")
        await hear(gateway, "meanwhile")
        assert ops(fake) == [[2], [6]]
        if how in ("op 7", "op 9 true"):
            assert fake.hub.links[0].code not in (1000, 1001)

    play(script)


@pytest.mark.parametrize("how", [4003, 4005, 4007, 4009, "op 9 false", "resume refused", "expired", "dead"])
def test_what_a_session_does_not_survive(how: str | int) -> None:
    async def script(fake: FakeDiscord, gateway: Gateway) -> None:
        await take(gateway, Ready)
        if isinstance(how, int):
            fake.close(how)
        elif how == "op 9 false":
            fake.invalidate(False)
        else:
            fake.faults.refuse_resume = how == "resume refused"
            fake.faults.dead = {"resume", "gateway"} if how == "expired" else set()
            if how == "dead":
                fake.hub.sessions["session-1"].id = "gone"
                fake.hub.sessions["gone"] = fake.hub.sessions.pop("session-1")
            fake.cut()
            if how == "expired":
                await trio.sleep(fake.rules.session_ttl + 1)
                fake.faults.dead = set()
        again = await take(gateway, Ready)
        assert again.new_session
        fake.world.say("here")
        await hear(gateway, "here")
        assert ops(fake)[-1] == [2]
        assert fake.hub.links[-1].host == "gateway"

    play(script)


@pytest.mark.parametrize("code", [4004, 4010, 4011, 4012, 4013, 4014])
def test_what_ends_the_loop(code: int) -> None:
    async def script(fake: FakeDiscord, gateway: Gateway) -> None:
        await take(gateway, Ready)
        fake.close(code)
        with pytest.raises(GatewayClosed, match=str(code)):
            await anext(gateway)
        await trio.sleep(100)
        assert len(fake.hub.links) == 1

    play(script)


@pytest.mark.parametrize(
    ("code", "rules", "settings"),
    [
        (4004, {}, {"token": "wrong"}),
        (4011, {"shards": 3}, {"shards": 2, "shard_ids": [0]}),
        (4013, {}, {"intents": 1 << 40}),
        (4014, {"privileged": 0}, {}),
    ],
)
def test_what_the_server_finds_wrong_is_told(code: int, rules: Any, settings: Any) -> None:
    async def main() -> None:
        async with open_fake(memory=True, **rules) as fake:
            chosen = {"intents": INTENTS, "gateway_url": fake.gateway_url, **settings}
            async with fake.open_gateway(**chosen) as gateway:
                with pytest.raises(GatewayClosed, match=str(code)):
                    await anext(gateway)

    simulate(main, limit=600.0)


@pytest.mark.parametrize("way", ["dead", "silent"])
def test_a_resume_host_that_is_down_is_given_up_and_the_session_goes_on(way: str) -> None:
    async def script(fake: FakeDiscord, gateway: Gateway) -> None:
        await take(gateway, Ready)
        getattr(fake.faults, way).add("resume")
        fake.cut()
        fake.world.say("meanwhile")
        await hear(gateway, "meanwhile")
        assert fake.hub.links[-1].host == "gateway"
        assert ops(fake)[-1] == [6]

    play(script)


@pytest.mark.parametrize("fault", ["mute", "stalled"])
def test_a_connection_that_is_dead_is_left_and_nothing_is_lost(fault: str) -> None:
    async def script(fake: FakeDiscord, gateway: Gateway) -> None:
        await take(gateway, Ready)
        await trio.sleep(fake.rules.heartbeat_interval)
        setattr(fake.faults, fault, True)
        if fault == "stalled":
            fake.world.say("held back")
        await fake.until(lambda: fake.hub.links[0].over, 2.5 * fake.rules.heartbeat_interval)
        setattr(fake.faults, fault, False)
        fake.world.say("after")
        await hear(gateway, *(["held back"] if fault == "stalled" else []), "after")
        assert fake.hub.links[0].code == 4000
        assert ops(fake)[-1] == [6]

    play(script)


def test_heartbeats_keep_a_connection_alive_and_are_given_when_asked_for() -> None:
    async def script(fake: FakeDiscord, gateway: Gateway) -> None:
        await take(gateway, Ready)
        await trio.sleep(50 * fake.rules.heartbeat_interval)
        (link,) = fake.hub.links
        beats = sum(op == 1 for op, _ in link.heard)
        assert 49 <= beats <= 51
        fake.ask_for_heartbeats()
        await trio.sleep(0.01)
        assert sum(op == 1 for op, _ in link.heard) == beats + 1
        assert link.heard[-1] == (1, fake.hub.live[0].session.seq)  # type: ignore[union-attr]

    play(script)


def test_a_frame_that_cannot_be_read_costs_no_event_when_it_was_packed() -> None:
    async def script(fake: FakeDiscord, gateway: Gateway) -> None:
        await take(gateway, Ready)
        fake.faults.corrupt = 1
        for number in range(3):
            fake.world.say(str(number))
        await hear(gateway, "0", "1", "2")
        assert ops(fake) == [[2], [6]]

    play(script, compress="zlib-stream")


# -- servers that are not Discord ------------------------------------------------------------------


def test_a_replay_without_its_end_is_told() -> None:
    async def script(fake: FakeDiscord, gateway: Gateway) -> None:
        await take(gateway, Ready)
        fake.faults.drop_last_replayed = True
        fake.cut()
        fake.world.say("replayed")
        fake.world.say("left out")
        assert (await take(gateway, Event)).data["content"] == "replayed"
        await take(gateway, Resumed)
        fake.world.say("next")
        assert await take(gateway, Gap) == Gap("hole", 1, 1)
        await hear(gateway, "next")

    play(script)


def test_what_a_replay_leaves_out_is_told_in_its_place() -> None:
    async def script(fake: FakeDiscord, gateway: Gateway) -> None:
        await take(gateway, Ready)
        fake.faults.drop_first_replayed = True
        fake.cut()
        fake.world.say("left out")
        fake.world.say("replayed")
        assert await take(gateway, Gap) == Gap("hole", 1, 1)
        assert (await take(gateway, Event)).data["content"] == "replayed"
        await take(gateway, Resumed)

    play(script)


def test_payloads_without_number_and_name_will_do() -> None:
    async def script(fake: FakeDiscord, gateway: Gateway) -> None:
        await take(gateway, Ready)
        fake.faults.bare = True
        fake.cut()
        fake.world.say("a")
        await hear(gateway, "a")
        await trio.sleep(5 * fake.rules.heartbeat_interval)
        fake.world.say("b")
        await hear(gateway, "b")
        assert ops(fake) == [[2], [6]]

    play(script)


def test_op_7_in_place_of_hello_is_obeyed() -> None:
    async def script(fake: FakeDiscord, gateway: Gateway) -> None:
        await take(gateway, Ready)
        fake.faults.hello = "reconnect"
        fake.cut()
        await fake.until(lambda: len(fake.hub.links) > 3, 600)
        fake.faults.hello = ""
        fake.world.say("a")
        await hear(gateway, "a")
        assert ops(fake)[-1] == [6]

    play(script)


# -- limits ----------------------------------------------------------------------------------------


def test_shards_begin_as_many_at_a_time_as_allowed() -> None:
    async def script(fake: FakeDiscord, gateway: Gateway) -> None:
        for _ in range(8):
            await take(gateway, Ready)
        begun = fake.hub.identified
        assert sorted(shard for _, shard in begun) == list(range(8))
        for bucket in range(2):
            times = [at for at, shard in begun if shard % 2 == bucket]
            assert all(b - a >= 5.0 for a, b in pairwise(times))
        assert begun[-1][0] - begun[0][0] < 17
        assert ops(fake) == [[2]] * 8
        guilds = [fake.world.guild(f"g{n}") for n in range(3)]
        for guild in guilds:
            fake.world.say("x", channel=guild.channels[0])
            event = await take(gateway, Event)
            assert event.shard == gateway.shard_of(guild.raw["id"])

    play(script, rules={"shards": 8, "max_concurrency": 2})


def test_the_last_sessions_of_the_day_are_not_begun() -> None:
    async def main() -> None:
        async with open_fake(memory=True, session_total=20) as fake:
            fake.hub.starts.remaining = 3
            for _ in range(2):
                async with fake.open_gateway(intents=INTENTS) as gateway:
                    await take(gateway, Ready)
                await trio.sleep(5)
            async with fake.open_gateway(intents=INTENTS) as gateway:
                with pytest.raises(IdentifyRefused):
                    await anext(gateway)
            assert fake.hub.starts.remaining == 1
            assert not fake.hub.starts.reset

    simulate(main, limit=600.0)


def test_what_the_application_sends_stays_below_the_limit() -> None:
    async def script(fake: FakeDiscord, gateway: Gateway) -> None:
        await take(gateway, Ready)
        presence: dict[str, Any] = {"status": "online", "activities": [], "since": None, "afk": False}
        for _ in range(250):
            await gateway.send(3, presence)
        await trio.sleep(1)
        (link,) = fake.hub.links
        assert not link.over
        assert sum(op == 3 for op, _ in link.heard) == 250

    play(script, rules={"heartbeat_interval": 5.0})
