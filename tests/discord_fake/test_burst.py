"""5,000 events at once and a bot that is slow, on real sockets in real time: the heart beats on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import pytest
import trio

from ccm.discord import DiscordSettings, Event, Gap, Gateway, Resumed, open_gateway
from ccm.discord._dial import Address, dial_tcp
from ccm.testing import simulate

from .bursting import Burster, open_burster
from .fake import open_fake
from .rules import TOKEN

EVENTS, INBOX = 5_000, 300
INTERVAL = 1.0
LATE = 0.1
"""Seconds by which a heartbeat may be late, apart from those in which others had the processor."""
WANTED: Mapping[str, Any] = {"events": {"MESSAGE_CREATE"}}
INTENTS = (1 << 0) | (1 << 9) | (1 << 15)
SCHEDSTAT = Path("/proc/thread-self/schedstat")
TEXT, SHORT = 0x81, 126


def held_up() -> float:
    """Seconds for which this thread could have run and did not, as others had the processor; 0 if unknown."""
    if not SCHEDSTAT.exists():
        return 0.0
    return int(SCHEDSTAT.read_text().split()[1]) / 1e9


@final
class Noting(trio.abc.Stream):
    """A client's end of a connection, which notes when heartbeats have left, and what the thread waited."""

    def __init__(self, stream: trio.abc.Stream, beats: list[tuple[float, float]]) -> None:
        self._stream = stream
        self._beats = beats

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)
        frame = bytes(data)
        if frame[0] == TEXT and frame[1] & 127 < SHORT:
            mask = frame[2:6]
            text = bytes(byte ^ mask[place % 4] for place, byte in enumerate(frame[6:]))
            if text.startswith(b'{"op":1,'):
                self._beats.append((time.monotonic(), held_up()))

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


def lateness(beats: list[tuple[float, float]], interval: float) -> list[float]:
    """How late each was against the earliest of them, less what others held this thread up meanwhile."""
    offsets = [when - number * interval for number, (when, _) in enumerate(beats)]
    waits = [waited - before for (_, before), (_, waited) in zip([beats[0], *beats], beats, strict=False)]
    return [offset - min(offsets) - wait for offset, wait in zip(offsets, waits, strict=True)]


@pytest.mark.trio
async def test_a_burst_delays_no_heartbeat_and_what_is_shed_is_told() -> None:
    """The server, in a process of its own, has 5,000 messages in its queue before it sends the first.

    Its answer to a heartbeat stands behind them. A heartbeat counts as sent when the kernel has it.
    """
    beats: list[tuple[float, float]] = []

    async def dial(address: Address) -> trio.abc.Stream:
        return Noting(await dial_tcp(address), beats)

    async with open_burster(INTERVAL) as server:
        settings = DiscordSettings(
            token=TOKEN, api_url=server.api_url, intents=INTENTS, inbox=INBOX, **WANTED
        )
        async with open_gateway(settings, dial=dial) as gateway:
            texts, gaps = await _play(gateway, server)
            statistics = gateway.statistics()
            seen = await server.seen()
    assert statistics.connections == seen["links"] == 1
    assert (statistics.holes, statistics.waiting, statistics.live) == (0, 0, 1)
    assert len(beats) == len(seen["beats"]) >= 4
    assert max(lateness(beats, INTERVAL)) <= LATE
    assert texts == sorted(set(texts))
    assert statistics.shed == sum(gap.count for gap in gaps) == EVENTS - len(texts) > 0
    assert all(gap.reason == "shed" and gap.messages == gap.count for gap in gaps)
    assert len(texts) >= INBOX


def test_an_answer_behind_a_burst_is_waited_for() -> None:
    """On a slow line: for 2.5 intervals nothing but events comes."""

    async def main() -> None:
        async with open_fake(memory=True, heartbeat_interval=INTERVAL) as fake:
            fake.faults.gateway_latency = 2.5 * INTERVAL / EVENTS
            async with fake.open_gateway(intents=INTENTS, inbox=EVENTS, **WANTED) as gateway:
                await anext(gateway)
                for number in range(EVENTS):
                    fake.world.say(str(number))
                for number in range(EVENTS):
                    item = await anext(gateway)
                    assert isinstance(item, Event)
                    assert item.data["content"] == str(number)
                await trio.sleep(3 * INTERVAL)
                fake.faults.mute = True  # events, but no answer any more
                began = trio.current_time()
                while gateway.statistics().connections == 1:
                    fake.world.say("hello")
                    await trio.sleep(INTERVAL / 10)
                assert 2 * INTERVAL < trio.current_time() - began <= 5 * INTERVAL

    simulate(main, limit=100.0)


async def _play(gateway: Gateway, server: Burster) -> tuple[list[int], list[Gap]]:
    """The burst, and 10 handlers at a time that take 50 ms each; returns what was read."""
    texts: list[int] = []
    gaps: list[Gap] = []
    room = trio.CapacityLimiter(10)

    async def handle() -> None:
        async with room:
            await trio.sleep(0.05)

    await anext(gateway)
    with trio.fail_after(60):
        async with trio.open_nursery() as handlers:
            handlers.start_soon(server.burst, EVENTS)
            while len(texts) + sum(gap.count for gap in gaps) < EVENTS:
                item = await anext(gateway)
                assert not isinstance(item, Resumed), "the connection was left"
                if isinstance(item, Gap):
                    gaps.append(item)
                elif isinstance(item, Event):
                    texts.append(int(item.data["content"]))
                    while room.statistics().tasks_waiting:  # noqa: ASYNC110  # the bot is slow
                        await trio.sleep(0.005)
                    handlers.start_soon(handle)
    await trio.sleep(3 * INTERVAL)
    return texts, gaps
