"""The gateway against a server that a test plays, on virtual time: cuts, bad events, slow readers."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio

from ccm.discord import (
    Event,
    Gap,
    Gateway,
    GatewayClosed,
    Ready,
    Resumed,
)
from tests.discord_client.kit import MESSAGE, play, ready, text
from tests.discord_client.scripted import Scripted

# -- begin -----------------------------------------------------------------------------------------


def test_a_session_is_begun_and_events_come_in_order() -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        peer = await server.next()
        told = await peer.begin()
        assert told == {
            "token": "t0ken", "intents": 4609, "shard": [0, 1], "presence": {"status": "idle"},
            "properties": {"os": "linux", "browser": "ccm", "device": "ccm"},
        }  # fmt: skip
        assert peer.headers["user-agent"].startswith("DiscordBot (")
        first = await anext(gateway)
        assert isinstance(first, Ready)
        assert (first.new_session, first.user.id, first.guilds) == (False, "1", ("7",))
        assert gateway.user == first.user
        for number in range(2, 30):
            await peer.dispatch(MESSAGE, number, number)
        assert [await text(gateway) for _ in range(2, 30)] == list(range(2, 30))
        assert gateway.statistics().live == 1

    server = play(script, shards=1, compress="zlib-stream", presence={"status": "idle"})
    assert server.dialled[0][2] == "/?v=10&encoding=json&compress=zlib-stream"


def test_heartbeats_come_in_their_rhythm_and_on_request_without_moving_it() -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        peer = await ready(server, gateway, interval=10.0)
        times = []
        for number in range(4):
            assert await peer.expect(1) == 1
            times.append(trio.current_time())
            await peer.send(11)
            if number == 2:
                await trio.sleep(4)
                await peer.send(1)
                assert await peer.expect(1) == 1
                assert trio.current_time() == times[-1] + 4
                await peer.send(11)
        assert times[0] < 10
        assert [round(b - a, 9) for a, b in pairwise(times)] == [10, 10, 10]

    play(script)


def test_a_peer_that_does_not_answer_heartbeats_is_left_and_the_session_goes_on() -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        peer = await ready(server, gateway, interval=10.0)
        await peer.dispatch(MESSAGE, 2, "a")
        assert await text(gateway) == "a"
        await peer.expect(1)
        beat = trio.current_time()
        assert await peer.closed_with() == 4000  # in place of a second heartbeat
        assert trio.current_time() == pytest.approx(beat + 10)
        again = await server.next()
        assert again.host == "resume.example"
        assert await again.resume() == {"token": "t0ken", "session_id": "s", "seq": 2}
        await again.dispatch(MESSAGE, 3, "b")
        await again.dispatch("RESUMED", 4)
        assert await text(gateway) == "b"
        assert await anext(gateway) == Resumed(1)

    play(script)


# -- cuts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how", ["vanish", "reconnect", "reconnect at once", 1000, 1001, 1006, 4000, 4008, 4999]
)
def test_a_cut_session_goes_on_where_it_was(how: str | int) -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        peer = await ready(server, gateway)
        await peer.dispatch(MESSAGE, 2, "seen")
        assert await text(gateway) == "seen"
        if how == "vanish":
            await peer.vanish()
        elif isinstance(how, int):
            await peer.close(1011 if how == 1006 else how)
        else:
            await peer.send(7)
            assert await peer.closed_with() == 4000
        if how == "reconnect at once":
            peer = await server.next()
            await peer.send(7)  # in place of HELLO
            assert await peer.closed_with() == 4000
        peer = await server.next()
        assert peer.host == "resume.example"
        assert (await peer.resume())["seq"] == 2
        await peer.dispatch("RESUMED", 3)
        assert await anext(gateway) == Resumed(0)

    play(script)


@pytest.mark.parametrize("code", [4003, 4005, 4007, 4009])
def test_codes_that_end_the_session_begin_a_new_one(code: int) -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        peer = await ready(server, gateway)
        await peer.close(code)
        peer = await server.next()
        assert peer.host == "first.example"
        await peer.begin("other")
        found = await anext(gateway)
        assert isinstance(found, Ready)
        assert found.new_session

    play(script)


@pytest.mark.parametrize("code", [4004, 4010, 4011, 4012, 4013, 4014])
def test_codes_that_cannot_be_mended_end_the_loop_after_what_came_before(code: int) -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        peer = await ready(server, gateway)
        await peer.dispatch(MESSAGE, 2, "last")
        await peer.close(code)
        assert await text(gateway) == "last"
        for _ in range(2):
            with pytest.raises(GatewayClosed, match=str(code)):
                await anext(gateway)

    assert len(play(script).dialled) == 1


def test_an_invalid_session_waits_and_begins_anew_at_the_first_url() -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        peer = await ready(server, gateway)
        await peer.vanish()
        peer = await server.next()
        await peer.resume()
        refused = trio.current_time()
        await peer.send(9, False)
        await peer.closed_with()
        peer = await server.next()
        assert peer.host == "first.example"
        assert 1 <= trio.current_time() - refused <= 6
        await peer.begin("other", seq=1)
        found = await anext(gateway)
        assert isinstance(found, Ready)
        assert found.new_session

    play(script)


def test_a_session_that_is_always_refused_is_given_up_after_three_times() -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        peer = await ready(server, gateway)
        await peer.vanish()
        for _ in range(3):
            peer = await server.next()
            await peer.resume()
            await peer.vanish()
        peer = await server.next()
        assert peer.host == "first.example"
        await peer.begin()
        assert (await anext(gateway)) == Ready(True, gateway.user, ("7",))  # type: ignore[arg-type]

    play(script)


@pytest.mark.parametrize("how", ["dead", "silent"])
def test_a_dead_resume_host_is_dropped_but_not_the_session(how: str) -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        peer = await ready(server, gateway)
        (server.dead if how == "dead" else server.silent).add("resume.example")
        await peer.vanish()
        peer = await server.next()
        assert peer.host == "first.example"
        assert (await peer.resume())["session_id"] == "s"

    play(script)


def test_numbers_left_out_by_the_replay_are_a_gap_also_at_its_end() -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        peer = await ready(server, gateway)
        await peer.vanish()
        peer = await server.next()
        await peer.resume()
        await peer.dispatch(MESSAGE, 4, "late")  # 2 and 3 are missing
        await peer.dispatch("RESUMED", None)
        await peer.dispatch(MESSAGE, 6, "live")  # 5, too
        assert await anext(gateway) == Gap("hole", 2, 2)
        assert await text(gateway) == "late"
        assert await anext(gateway) == Resumed(1)
        assert await anext(gateway) == Gap("hole", 1, 1)
        assert await text(gateway) == "live"

    play(script)


def test_first_retry_at_once_then_later_and_later_up_to_a_minute() -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        await trio.sleep(3600)

    times = [time for time, _, _ in play(script, dead=True).dialled]
    assert times[1] == times[0]
    pauses = [b - a for a, b in pairwise(times[1:])]
    assert max(pauses) <= 60
    assert 60 < len(times) < 400
    assert sum(pauses[10:]) / len(pauses[10:]) == pytest.approx(30, rel=0.4)


def test_a_peer_that_says_nothing_is_left() -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        peer = await server.next()
        assert await peer.closed_with() == 4000
        assert trio.current_time() == 20.0

    play(script)


# -- bad events ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "junk", ["{", "", "[" * 100_000, "null", "[]", "7", '{"op":"x"}', '{"op":0}', '{"op":10}']
)
def test_one_bad_payload_does_not_lose_events(junk: str) -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        peer = await ready(server, gateway)
        await peer.raw(junk)
        if junk == '{"op":10}':
            assert await peer.closed_with() == 4000
            peer = await server.next()
            await peer.resume()
        await peer.dispatch(MESSAGE, 2, "after")
        item = await anext(gateway)
        if isinstance(item, Gap):
            assert item == Gap("undecodable", 1, 1)
            item = await anext(gateway)
        assert isinstance(item, Event)
        assert item.data == "after"

    play(script)


def test_a_broken_zlib_stream_is_left_and_the_session_goes_on() -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        peer = await ready(server, gateway)
        await peer.socket.send_message(b"nonsense\x00\x00\xff\xff")
        assert await peer.closed_with() == 4000
        peer = await server.next()
        await peer.resume()

    play(script, compress="zlib-stream")


def test_a_message_that_is_too_large_costs_the_connection_not_the_session() -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        peer = await ready(server, gateway)
        await peer.raw(" " * 4097)
        await peer.closed_with()
        peer = await server.next()
        assert (await peer.resume())["seq"] == 1

    play(script, max_message_size=4096)


# -- slow readers ----------------------------------------------------------------------------------


def test_a_slow_reader_delays_no_heartbeat_and_hears_what_it_missed() -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        peer = await ready(server, gateway, interval=5.0)
        for number in range(2, 502):
            await peer.dispatch("TYPING_START" if number % 2 else MESSAGE, number, number)
        beats = 0
        with trio.move_on_after(60):
            while True:
                await peer.expect(1)
                await peer.send(11)
                beats += 1
        assert beats in (12, 13)
        items = []
        with trio.move_on_after(1):
            async for item in gateway:
                items.append(item)
        gaps = [item for item in items if isinstance(item, Gap)]
        events = [item.data for item in items if isinstance(item, Event)]
        assert sum(gap.count for gap in gaps) + len(events) == 500
        assert gateway.statistics().shed == sum(gap.count for gap in gaps) == 400
        assert events == [number for number in range(2, 202) if number % 2 == 0]
        assert gateway.statistics().connections == 1

    play(script, inbox=100)
