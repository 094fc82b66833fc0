"""5,000 events at once and a bot that is slow, on real sockets in real time: the heart beats on."""

from __future__ import annotations

import pytest
import trio

from ccm.discord import Event, Gap, Resumed
from tests.discord_fake.fake import FakeDiscord, open_fake
from tests.discord_fake.sessions import Link

EVENTS, INBOX = 5_000, 300
INTERVAL, TICK = 1.0, 0.01
LATE = 0.1
"""Seconds by which a heartbeat may be later than the loop itself could have run it."""
INTENTS = (1 << 0) | (1 << 9) | (1 << 15)


def lateness(times: list[float], interval: float) -> float:
    """How far the latest is behind a rhythm of which the earliest is the beginning."""
    offsets = [time - number * interval for number, time in enumerate(times)]
    return max(offsets) - min(offsets)


@pytest.mark.trio
async def test_a_burst_delays_no_heartbeat_and_what_is_shed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Server, client and a control task share one loop.

    The control wakes every 10 ms and notes by how much it was late: so late was the loop itself, whoever
    held it up (another program on this machine, the server's half of the work). Only what a heartbeat was
    late beyond the worst of that is the client's doing. The server sends as fast as the connection takes it:
    were all 5,000 queued first, its answer to a heartbeat would be behind them, for longer than an interval.
    """
    beats: list[float] = []
    receive = Link.receive

    def noting(link: Link, data: str | bytes, now: float) -> None:
        receive(link, data, now)
        if link.heard[-1][0] == 1:
            beats.append(now)

    monkeypatch.setattr(Link, "receive", noting)
    held_up = 0.0

    async def control() -> None:
        nonlocal held_up
        due = trio.current_time()
        while True:
            due = max(due + TICK, trio.current_time())
            await trio.sleep_until(due)
            held_up = max(held_up, trio.current_time() - due)

    async with open_fake(heartbeat_interval=INTERVAL, patience=30.0) as fake, trio.open_nursery() as nursery:
        nursery.start_soon(control)
        texts, gaps = await _play(fake)
        nursery.cancel_scope.cancel()
    assert len(beats) >= 4
    assert lateness(beats, INTERVAL) <= LATE + held_up
    assert texts == sorted(set(texts))
    assert len(texts) + sum(gap.count for gap in gaps) == EVENTS
    assert all(gap.reason == "shed" and gap.messages == gap.count for gap in gaps)
    assert len(texts) >= INBOX


async def _play(fake: FakeDiscord) -> tuple[list[int], list[Gap]]:
    """The burst, and 10 handlers at a time that take 50 ms each; returns what was read."""
    texts: list[int] = []
    gaps: list[Gap] = []
    room = trio.CapacityLimiter(10)

    async def handle() -> None:
        async with room:
            await trio.sleep(0.05)

    async with fake.open_gateway(intents=INTENTS, inbox=INBOX, events={"MESSAGE_CREATE"}) as gateway:
        await anext(gateway)

        async def burst() -> None:
            (link,) = fake.links
            for number in range(EVENTS):
                fake.world.say(str(number))
                while len(link.out) > 50:
                    await trio.lowlevel.checkpoint()

        with trio.fail_after(60):
            async with trio.open_nursery() as handlers:
                handlers.start_soon(burst)
                while len(texts) + sum(gap.count for gap in gaps) < EVENTS:
                    item = await anext(gateway)
                    assert not isinstance(item, Resumed)
                    if isinstance(item, Gap):
                        gaps.append(item)
                    elif isinstance(item, Event):
                        texts.append(int(item.data["content"]))
                        while room.statistics().tasks_waiting:  # noqa: ASYNC110  # the bot is slow
                            await trio.sleep(0.005)
                        handlers.start_soon(handle)
        await trio.sleep(3 * INTERVAL)
        statistics = gateway.statistics()
        assert statistics.shed == sum(gap.count for gap in gaps) > 0
        assert statistics.connections == 1
        assert (statistics.holes, statistics.waiting, statistics.live) == (0, 0, 1)
    return texts, gaps
