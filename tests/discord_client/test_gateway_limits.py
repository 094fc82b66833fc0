"""The gateway's restarts, limits and ends; restarts on real sockets, the rest on virtual time."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed

from ccm.discord import (
    DiscordError,
    Event,
    Gap,
    Gateway,
    IdentifyRefused,
    Ready,
    open_gateway,
)
from ccm.testing import simulate
from tests.discord_client.kit import MESSAGE, Play, play, ready, settings
from tests.discord_client.scripted import Scripted

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
        gateway.handled(await anext(gateway))
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


def test_a_loss_that_was_not_handled_is_told_to_the_next_process(tmp_path: Path) -> None:
    async def first(server: Scripted, gateway: Gateway) -> None:
        peer = await server.next()
        await peer.begin(session="old")
        gateway.handled(await anext(gateway))

    async def lost(server: Scripted, gateway: Gateway) -> None:
        peer = await server.next()
        assert (await peer.resume())["session_id"] == "old"
        await peer.send(9, False)
        await (await server.next()).begin(session="new")
        ready = await anext(gateway)
        assert isinstance(ready, Ready)
        assert ready.new_session
        await trio.sleep(1.2)  # nobody fetches what was missed; the state is written meanwhile

    async def hole(server: Scripted, gateway: Gateway) -> None:
        peer = await server.next()
        assert (await peer.resume())["session_id"] == "old"
        await peer.send(9, False)
        await (peer := await server.next()).begin(session="new")
        gateway.handled(await anext(gateway))
        await peer.dispatch(MESSAGE, 2, 2)
        gateway.handled(await anext(gateway))
        await peer.raw("{")
        await peer.dispatch(MESSAGE, 4, 4)
        assert isinstance(await anext(gateway), Gap)
        gateway.handled(await anext(gateway))

    async def last(server: Scripted, gateway: Gateway) -> None:
        assert (await (await server.next()).resume())["seq"] == 2

    for script in (first, lost, hole, last):
        trio.run(partial(on_sockets, script, state=tmp_path / "state", acknowledge=True))


def test_events_that_nobody_says_are_handled_hold_up_the_next() -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        peer = await ready(server, gateway)
        for number in range(2, 6):
            await peer.dispatch(MESSAGE, number, number)
        first, _ = await anext(gateway), await anext(gateway)
        with trio.move_on_after(60) as scope:
            await anext(gateway)
        assert scope.cancelled_caught
        gateway.handled(first)
        assert isinstance(await anext(gateway), Event)
        assert gateway.unhandled == 2

    play(script, acknowledge=True, max_unhandled=2, limit=100.0)


def test_a_state_that_cannot_be_written_is_written_later(tmp_path: Path) -> None:
    folder, gone = tmp_path / "folder", tmp_path / "gone"
    folder.mkdir()

    async def script(server: Scripted, gateway: Gateway) -> None:
        await (peer := await server.next()).begin(session="kept")
        await anext(gateway)
        folder.rename(gone)
        await peer.dispatch(MESSAGE, 2)
        await anext(gateway)
        with trio.fail_after(10):
            while not gateway.statistics().unsaved:  # noqa: ASYNC110  # nothing tells of it
                await trio.sleep(0.05)
        gone.rename(folder)

    trio.run(partial(on_sockets, script, state=folder / "state"))
    (session,) = json.loads((folder / "state").read_text())["sessions"].values()
    assert session["session_id"] == "kept"


def test_sessions_begun_are_on_the_disk_before_they_begin(tmp_path: Path) -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        peer = await server.next()
        await peer.hello()
        await peer.expect(2)
        assert len(json.loads((tmp_path / "state").read_text())["begun"]) == 1

    trio.run(partial(on_sockets, script, state=tmp_path / "state"))


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
        for odd in (float("nan"), {1, 2}):
            with pytest.raises((ValueError, TypeError), match="JSON"):
                await gateway.send(3, odd)
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
