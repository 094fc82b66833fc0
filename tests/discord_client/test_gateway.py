"""The gateway against a server that a test plays, on virtual time; two tests use real sockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed

from ccm.discord import (
    DiscordError,
    DiscordSettings,
    Event,
    Gap,
    Gateway,
    GatewayClosed,
    IdentifyRefused,
    Ready,
    Resumed,
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


# -- begin -----------------------------------------------------------------------------------------


def test_a_session_is_begun_and_events_come_in_order() -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        peer = await server.next()
        told = await peer.begin()
        assert told["token"] == "t0ken"
        assert told["shard"] == [0, 1]
        assert peer.headers["user-agent"].startswith("DiscordBot (")
        first = await anext(gateway)
        assert isinstance(first, Ready)
        assert (first.new_session, first.user.id, first.guilds) == (False, "1", ("7",))
        assert gateway.user == first.user
        for number in range(2, 30):
            await peer.dispatch(MESSAGE, number, number)
        assert [await text(gateway) for _ in range(2, 30)] == list(range(2, 30))
        assert gateway.statistics().live == 1

    server = play(script, shards=1, compress="zlib-stream")
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
        assert [round(b - a, 9) for a, b in zip(times, times[1:], strict=False)] == [10, 10, 10]

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


@pytest.mark.parametrize("how", ["vanish", "reconnect", "reconnect at once", 1000, 1001, 1006, 4000, 4008, 4999])
def test_a_cut_session_goes_on_where_it_was(how: str | int) -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        peer = await ready(server, gateway)
        await peer.dispatch(MESSAGE, 5, "seen")
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
        assert (await peer.resume())["seq"] == 5
        await peer.dispatch("RESUMED", 6)
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
        assert await text(gateway) == "late"
        assert await anext(gateway) == Resumed(1)
        assert await anext(gateway) == Gap("hole", 2, 2)
        assert await anext(gateway) == Gap("hole", 1, 1)
        assert await text(gateway) == "live"

    play(script)


def test_first_retry_at_once_then_later_and_later_up_to_a_minute() -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        await trio.sleep(3600)

    times = [time for time, _, _ in play(script, dead=True).dialled]
    assert times[1] == times[0]
    pauses = [b - a for a, b in zip(times[1:], times[2:], strict=False)]
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


@pytest.mark.parametrize("junk", ["{", "", "[" * 100_000, "null", "[]", "7", '{"op":"x"}', '{"op":0}', '{"op":10}'])
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


# -- restarts --------------------------------------------------------------------------------------


async def on_sockets(script: Play, **more: Any) -> None:
    async with trio.open_nursery() as nursery:
        server = Scripted(nursery)
        listeners = await nursery.start(partial(trio.serve_tcp, server.serve, 0, host="127.0.0.1"))
        url = f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        with trio.fail_after(20):
            async with open_gateway(settings(gateway_url=url, **more)) as gateway:
                await script(server, gateway)
        nursery.cancel_scope.cancel()


def test_after_a_restart_the_session_goes_on_behind_what_was_handled(tmp_path: Path) -> None:
    async def first(server: Scripted, gateway: Gateway) -> None:
        peer = await server.next()
        await peer.hello()
        await peer.expect(2)
        await peer.dispatch("READY", 1, {"session_id": "kept", "user": {"id": "1"}})
        await anext(gateway)
        for number in range(2, 6):
            await peer.dispatch(MESSAGE, number, number)
        events = [await anext(gateway) for _ in range(2, 6)]
        for event in (events[0], events[2], events[3]):  # 2, 4 and 5, but not 3
            assert isinstance(event, Event)
            gateway.handled(event)

    async def second(server: Scripted, gateway: Gateway) -> None:
        peer = await server.next()
        assert await peer.resume() == {"token": "t0ken", "session_id": "kept", "seq": 2}

    more: dict[str, Any] = {"state": tmp_path / "state", "acknowledge": True, "compress": "zlib-stream"}
    trio.run(partial(on_sockets, first, **more))
    assert oct((tmp_path / "state").stat().st_mode)[-3:] == "600"
    trio.run(partial(on_sockets, second, **more))


def test_a_state_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_text("important")

    async def script(server: Scripted, gateway: Gateway) -> None: ...

    with pytest.RaisesGroup(pytest.RaisesExc(DiscordError, match="not one of ccm")):
        trio.run(partial(on_sockets, script, state=path))
    assert path.read_text() == "important"


# -- limits ----------------------------------------------------------------------------------------


def test_shards_of_a_bucket_begin_five_seconds_apart() -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        times, peers = [], []
        for _ in range(3):
            peers.append(await server.next())
            told = await peers[-1].begin()
            times.append((told["shard"], trio.current_time()))
        assert times == [([0, 3], 0.0), ([1, 3], 5.0), ([2, 3], 10.0)]

    play(script, shards=3)


def test_the_last_sessions_of_a_day_are_never_begun() -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        async def refuse_all() -> None:
            while True:
                peer = await server.next()
                await peer.hello(3000.0)
                with suppress(ConnectionClosed):  # the last one is let go
                    await peer.expect(2)
                if peer.socket.closed:
                    return
                begun.append(trio.current_time())
                await peer.close(4009)

        begun: list[float] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refuse_all)
            with pytest.raises(IdentifyRefused):
                await anext(gateway)
            nursery.cancel_scope.cancel()
        assert len(begun) == 100

    play(script, limit=86_400.0, identify_reserve=900)


def test_presence_waits_until_live_and_for_the_limit() -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(150):
                nursery.start_soon(gateway.send, 3, number)
            peer = await server.next()
            await peer.begin(interval=3600.0)
            times = []
            for _ in range(150):
                await peer.expect(3)
                times.append(trio.current_time())
        assert times[98] == 0.0
        assert times[99] == 60.0  # IDENTIFY counts, too

    play(script)


def test_payloads_too_large_are_refused() -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        with pytest.raises(ValueError, match="4096"):
            await gateway.send(3, "x" * 4096)
        with pytest.raises(ValueError, match="shard"):
            await gateway.send(3, "x", shard=1)

    play(script)


# -- leaving ---------------------------------------------------------------------------------------


def test_leaving_ends_the_session_and_the_error_of_the_block_is_its_own() -> None:
    codes: list[int | None] = []

    async def script(server: Scripted, gateway: Gateway) -> None:
        peer = await ready(server, gateway)

        async def watch() -> None:
            codes.append(await peer.closed_with())

        server._nursery.start_soon(watch)
        raise KeyError("mine")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            server = Scripted(nursery)
            with pytest.raises(KeyError, match="mine"):
                async with open_gateway(settings(), dial=server.dial) as gateway:
                    await script(server, gateway)

    simulate(main, limit=100.0)
    assert codes == [1000]


def test_cancelling_leaves_quickly_even_when_the_peer_is_stuck() -> None:
    async def main() -> float:
        async with trio.open_nursery() as nursery:
            server = Scripted(nursery)
            with trio.move_on_after(100):
                async with open_gateway(settings(), dial=server.dial) as gateway:
                    await ready(server, gateway, interval=3000.0)
                    await trio.sleep_forever()
            nursery.cancel_scope.cancel()
            return trio.current_time()
        raise AssertionError

    assert simulate(main, limit=1000.0) <= 102.0


def test_one_task_reads() -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gateway.__anext__)
            await trio.sleep(1)
            with pytest.raises(trio.BusyResourceError):
                await anext(gateway)
            nursery.cancel_scope.cancel()

    play(script)
