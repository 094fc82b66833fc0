"""G8: everything that waits or is remembered is bounded, and what happens at each bound is exact."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import trio
from hypothesis import given
from hypothesis import strategies as st

import ccm
from ccm import Reason
from ccm import _events as events
from ccm.testing import simulate

from .interpreter import CLOSED, WOULD_BLOCK, Trace, run
from .model import Instant, Replay
from .programs import CROWD, ROOMY, Behaviour, Drain, How, Program, Send, programs, sends, ticks


class Gate:
    """Says of each message, from the settings and the state of the replay alone, whether it comes in."""

    def __init__(self, replay: Replay) -> None:
        self.replay = replay
        self.config = replay.config
        self.draining = False
        self.ids: set[tuple[str, str]] = set()
        self.admitted: dict[tuple[str, str], list[float]] = {}

    def verdict(self, send: Send, now: float) -> Reason | None:
        """The checks in their documented order; None lets it in."""
        replay, config = self.replay, self.config
        lane = replay.lanes.get(send.conversation)
        policy = config.policy_of(send.tenant)
        rate = policy.rate_limit or None
        earlier = self.admitted.get((send.tenant, send.user), [])
        if self.draining:
            return Reason.DRAINING
        if send.id is not None and (send.tenant, send.id) in self.ids:
            return Reason.DUPLICATE
        if rate is not None and sum(at > now - rate.per for at in earlier) >= rate.count:
            return Reason.RATE_LIMITED
        if lane is not None and len(lane.waiting) >= config.conversation_limit:
            return Reason.CONVERSATION_FULL
        if lane is None and len(replay.lanes) >= config.max_sessions:
            return Reason.TOO_MANY_SESSIONS
        starts = (
            lane is None and replay.running < replay.slots(send.priority) and not replay.full(send.tenant)
        )
        if replay.crowded(send.tenant) and not starts:
            return Reason.QUEUE_SHARE
        if replay.waiting >= config.queue_limit and not starts:
            return Reason.OVERLOADED
        return None

    def admit(self, send: Send, now: float) -> None:
        self.admitted.setdefault((send.tenant, send.user), []).append(now)
        if send.id is not None:
            self.ids.add((send.tenant, send.id))


def check_displaced(replay: Replay, instant: Instant) -> None:
    """A bound was reached, and the one that had to go is the youngest of the least urgent class.

    Of all at the bound of the queue; of its own tenant's at the bound of that tenant.
    """
    victim = instant.turn
    assert victim is not None
    waiting = [t for t in replay.turns.values() if not (t.running or t.retrying)]
    if replay.crowded(victim.tenant):
        waiting = [turn for turn in waiting if turn.tenant == victim.tenant]
    else:
        assert replay.waiting >= replay.config.queue_limit
    assert victim is max(waiting, key=lambda t: (t.priority, t.id))


def check_gate(trace: Trace) -> None:
    """Every acceptance and every refusal, in the order of the calls, is what the settings say."""
    replay = Replay(trace)
    gate, displaced = Gate(replay), ccm.CRITICAL
    calls = iter([call for call in trace.calls if trace.results[call] != CLOSED])
    for instant in replay.instants():
        event = instant.event
        if isinstance(event, events.DrainStarted):
            gate.draining = True
        elif isinstance(event, events.Ended) and isinstance(event.outcome, ccm.Shed):
            assert trace.program.config.overflow is ccm.Overflow.SHED_LOWEST
            check_displaced(replay, instant)
            displaced = event.priority
        elif isinstance(event, events.Refused):
            send = trace.program.sends[next(calls)]
            assert event.reason == gate.verdict(send, event.at), instant
        elif isinstance(event, events.Accepted):
            send = trace.program.sends[next(calls)]
            assert gate.verdict(send, event.at) is None, instant
            assert displaced == ccm.CRITICAL or send.priority < displaced
            displaced = ccm.CRITICAL
            gate.admit(send, event.at)
    assert next(calls, None) is None


@given(
    program=programs(
        ends=st.builds(Drain, ticks(0, 128)), enabled=True, preempt=False, shedding=None,
        overflow=st.sampled_from([ccm.Overflow.REJECT_NEW, ccm.Overflow.SHED_LOWEST]),
    )
)  # fmt: skip
def test_each_message_meets_exactly_the_bounds_of_the_settings(program: Program) -> None:
    check_gate(run(program))


PLENTY = sends(behaviours=(Behaviour.REPLY, Behaviour.FAIL_ONCE), **CROWD)
TIGHT: dict[str, Any] = ROOMY | {
    "queue_limit": st.integers(1, 6), "enabled": True, "limit": st.integers(1, 2), "timeout": 30.0
}  # fmt: skip


@given(
    program=programs(
        messages=PLENTY, least=10, most=30, preempt=False, overflow=ccm.Overflow.SHED_LOWEST, **TIGHT
    )
)
def test_what_is_shed_is_the_youngest_of_the_least_urgent(program: Program) -> None:
    check_gate(run(program))


@given(program=programs(enabled=True, preempt=False, queue_limit=st.integers(1, 4)))
def test_what_waits_is_bounded(program: Program) -> None:
    trace, config = run(program), program.config
    replay = Replay(trace)
    for instant in replay.instants():
        # The one just told of may be starting; whatever waits at the end of an instant waits.
        if instant.event is None:
            assert replay.waiting <= config.queue_limit
            for lane in replay.lanes.values():
                assert sum(not turn.retrying for turn in lane.waiting) <= config.conversation_limit
            assert len(replay.lanes) <= config.max_sessions
    assert trace.final is not None
    assert trace.final.sessions.total <= config.max_sessions
    assert trace.final.sessions.peak <= config.max_sessions


# Few conversations: the first sender may have to wait for its own while a slot is free.
FEW = sends(behaviours=(Behaviour.REPLY,), **CROWD | {"conversations": "abc"})


@given(program=programs(messages=FEW, least=10, most=30, overflow=ccm.Overflow.WAIT, **TIGHT))
def test_senders_that_wait_come_in_in_their_order(program: Program) -> None:
    trace = run(program)
    turn_ids = {step.call: step.turn_id for step in trace.steps}
    turn_ids |= {call: receipt.turn_id for call, receipt in trace.receipts.items()}
    known = [turn_ids[call] for call in trace.calls if call in turn_ids]
    assert known == sorted(known)
    # Whoever may not wait is sent away while others do, or while there is no room.
    blocked = [call for call in trace.calls if trace.results[call] == WOULD_BLOCK]
    assert all(trace.program.sends[call].how is How.NOWAIT for call in blocked)
    assert Reason.OVERLOADED not in trace.reasons.values()


@given(buffer=st.integers(1, 8), pauses=st.lists(ticks(0, 32), max_size=8), seed=st.integers(0, 2**32))
def test_a_slow_reader_of_events_loses_some_and_is_told_how_many(
    buffer: int, pauses: list[float], seed: int
) -> None:
    config = ccm.Config(rate_limit=None, debug=True)

    async def reply(turn: ccm.Turn) -> str:
        await trio.sleep(1 / 64)
        return turn.text

    async def program() -> None:
        kept: list[ccm.Event] = []
        slow: list[ccm.Event] = []

        async def read(stream: ccm.EventStream, into: list[ccm.Event], pauses: list[float]) -> None:
            waits = iter(pauses)
            async for event in stream:
                into.append(event)
                await trio.sleep(next(waits, 0.0))

        async with (
            AsyncExitStack() as streams,
            trio.open_nursery() as readers,
            ccm.open_manager(reply, config=config) as manager,
        ):
            all_of_them = await streams.enter_async_context(manager.events(10_000))
            some = await streams.enter_async_context(manager.events(buffer))
            readers.start_soon(read, all_of_them, kept, [])
            readers.start_soon(read, some, slow, pauses)
            for number in range(10):
                manager.submit_nowait(ccm.Message(f"{number % 3}", "ann", "hello"))
                await trio.sleep(1 / 32)
        for event in slow:
            if isinstance(event, ccm.Lagged):
                del kept[: event.missed]
            else:
                assert kept.pop(0) == event
        assert kept == []

    simulate(program, seed=seed)


def test_dead_letters_and_channels_are_bounded() -> None:
    async def fail(turn: ccm.Turn) -> str:
        raise ccm.Permanent(turn.text)

    async def program() -> None:
        async with ccm.open_manager(fail, config=ccm.Config(rate_limit=None)) as manager:
            for number in range(1100):
                message = ccm.Message("c", f"{number}", f"{number}", channel=f"channel {number}")
                await (await manager.submit(message)).outcome()
            letters, statistics = manager.dead_letters(), manager.statistics()
            assert [letter.text for letter in letters] == [f"{n}" for n in range(100, 1100)]
            assert statistics.dead_letters == 1000
            assert statistics.channels.active == 1001  # the last one stands for all further ones
            assert dict(statistics.channels.top)["(other)"] == 100
            assert statistics.sessions.total == 1

    simulate(program)
