"""`events()`: what happens, in order, for readers that the manager never waits for."""

from __future__ import annotations

import logging

import pytest
import trio

from ccm import (
    NORMAL,
    Busy,
    Event,
    EventStream,
    Expired,
    Lagged,
    Priority,
    RateLimit,
    RateLimited,
    Reason,
    Replied,
    RetryPolicy,
    Turn,
)
from ccm import _events as events

from .kit import Gate, echo, opened, say, simulated, takes


def kinds(found: list[Event]) -> list[str]:
    return [type(event).__name__ for event in found]


async def rest(stream: EventStream) -> list[Event]:
    return [event async for event in stream]


@simulated
async def test_the_life_of_a_turn() -> None:
    found: list[Event] = []

    async def read() -> None:
        async with manager.events() as stream:
            found.extend(await rest(stream))

    async with trio.open_nursery() as nursery, opened(takes(2), limit=1) as manager:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        first = manager.submit_nowait(say("first", "a", tenant="guild", priority=1))
        second = manager.submit_nowait(say("second", "b"))
    outcome_1, outcome_2 = await first.outcome(), await second.outcome()
    assert found == [
        events.SessionStarted(0, "a"),
        events.Accepted(0, first.turn_id, "a", "guild", "chat", Priority.HIGH),
        events.Started(0, first.turn_id, "a", 1, 0),
        events.SessionStarted(0, "b"),
        events.Accepted(0, second.turn_id, "b", "", "chat", NORMAL),
        events.DrainStarted(0),
        events.Ended(2, first.turn_id, "a", "chat", Priority.HIGH, outcome_1, 0, 2),
        events.Started(2, second.turn_id, "b", 1, 2),
        events.Ended(4, second.turn_id, "b", "chat", NORMAL, outcome_2, 2, 2),
    ]


@simulated
async def test_a_stream_ends_when_the_manager_has_closed() -> None:
    async with trio.open_nursery() as nursery, opened(echo) as manager:
        ended: list[float] = []

        async def read() -> None:
            async with manager.events() as stream:
                await rest(stream)
                ended.append(trio.current_time())

        nursery.start_soon(read)
        await trio.sleep(3)
    assert ended == [3]


@simulated
async def test_events_after_closing_are_none() -> None:
    async with opened(echo) as manager:
        pass
    async with manager.events() as stream:
        assert await rest(stream) == []


@simulated
async def test_retries_are_told() -> None:
    async def handler(turn: Turn) -> str:
        if turn.attempt == 1:
            raise Busy(4)
        return ""

    async with opened(handler) as manager, manager.events() as stream:
        receipt = await manager.submit(say())
        await manager.wait_idle()
        found = [await anext(stream) for _ in range(6)]
        assert found[3] == events.Retrying(0, receipt.turn_id, "c", 1, 4, "Busy(4)")
        assert found[4] == events.Started(4, receipt.turn_id, "c", 2, 4)
        assert kinds(found[5:]) == ["Ended"]


@simulated
async def test_refusals_are_told() -> None:
    async with opened(echo, rate_limit=RateLimit(1, per=10)) as manager, manager.events() as stream:
        await manager.submit(say())
        with pytest.raises(RateLimited):
            await manager.submit(say(id="m2", tenant="", conversation="d"))
        await manager.wait_idle()
        found = [await anext(stream) for _ in range(5)]
        assert events.Refused(0, "m2", "d", "", Reason.RATE_LIMITED) in found


@simulated
async def test_expired_turns_are_told_with_their_wait() -> None:
    gate = Gate()
    async with opened(gate) as manager, manager.events() as stream:
        await manager.submit(say("runs"))
        receipt = await manager.submit(say("expires", deadline=3))
        await receipt.outcome()
        for _ in range(4):
            await anext(stream)
        assert await anext(stream) == events.Ended(3, receipt.turn_id, "c", "chat", NORMAL, Expired(), 3, 0)
        gate.open()


@simulated
async def test_ends_of_sessions_are_told() -> None:
    async with opened(echo, max_sessions=1, session_timeout=5) as manager, manager.events() as stream:
        await manager.ask(say("hi", "a"))
        await trio.sleep(1)
        await manager.ask(say("hi", "b"))
        await trio.sleep(10)
        found = [await anext(stream) for _ in range(10)]
        ended = [event for event in found if isinstance(event, events.SessionEnded)]
        assert ended == [events.SessionEnded(1, "a", "evicted"), events.SessionEnded(6, "b", "expired")]


@simulated
async def test_a_turn_that_does_not_end_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(turn: Turn) -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(10)
        return ""

    caplog.set_level(logging.CRITICAL, "ccm")
    async with opened(handler, timeout=2, retry=RetryPolicy(attempts=1)) as manager:
        async with manager.events() as stream:
            receipt = await manager.submit(say())
            await manager.wait_idle()
            found = [await anext(stream) for _ in range(5)]
        assert kinds(found) == ["SessionStarted", "Accepted", "Started", "Stuck", "Ended"]
        stuck = found[3]
        assert isinstance(stuck, events.Stuck)
        assert stuck == events.Stuck(3, receipt.turn_id, "c", "chat", 3, by="timeout", where=stuck.where)
        assert "handler (test_events.py:" in stuck.where


@simulated
async def test_a_slow_reader_is_told_how_many_it_lost() -> None:
    async with opened(echo) as manager, manager.events(buffer=4) as stream:
        for n in range(10):
            await manager.ask(say(f"{n}", f"{n}"))  # four events each
        found = [await anext(stream) for _ in range(4)]
        assert kinds(found) == ["SessionStarted", "Accepted", "Started", "Ended"]
        await manager.ask(say("next", "x"))
        assert await anext(stream) == Lagged(0, 36)
        assert kinds([await anext(stream) for _ in range(3)]) == ["SessionStarted", "Accepted", "Started"]
        await manager.ask(say("last", "x"))
        assert await anext(stream) == Lagged(0, 1)


@simulated
async def test_a_slow_reader_is_told_at_the_end_too() -> None:
    """No event that was lost goes unmentioned, although no later one reports it."""
    found: list[Event] = []
    async with trio.open_nursery() as nursery, opened(echo) as manager:

        async def read() -> None:
            async with manager.events(buffer=3) as stream:
                await trio.sleep(100)
                found.extend(await rest(stream))

        nursery.start_soon(read)
        await trio.sleep(1)
        await manager.ask(say())
    assert kinds(found) == ["SessionStarted", "Accepted", "Started", "Lagged"]
    assert isinstance(found[-1], Lagged)
    assert found[-1].missed == 2  # Ended and DrainStarted


@simulated
async def test_slow_readers_do_not_slow_the_manager_or_each_other() -> None:
    async with opened(takes(1)) as manager, manager.events(buffer=1), manager.events(buffer=100) as quick:
        for n in range(5):
            await manager.ask(say(f"{n}"))
        assert trio.current_time() == 5
        found = [await anext(quick) for _ in range(16)]
        assert kinds(found).count("Ended") == 5


@simulated
async def test_a_reader_may_leave_at_any_time() -> None:
    async with opened(echo) as manager:
        async with manager.events() as stream:
            await manager.ask(say())
            async for event in stream:
                assert isinstance(event, events.SessionStarted)
                break
        await manager.ask(say())
        with trio.move_on_after(1):
            async with manager.events() as stream:
                await rest(stream)
        await manager.ask(say())
        assert manager.statistics().outcomes["replied"] == 3


def test_without_a_reader_no_event_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*_: object) -> None:
        raise AssertionError("an event was made for nobody")

    for name in ("Accepted", "Started", "Ended", "Retrying", "Refused", "SessionStarted", "SessionEnded"):
        monkeypatch.setattr(events, name, made)

    async def handler(turn: Turn) -> str:
        if turn.attempt == 1:
            raise Busy(1)
        return ""

    @simulated
    async def program() -> None:
        async with opened(handler, session_timeout=5, rate_limit=RateLimit(1, per=10)) as manager:
            receipt = await manager.submit(say())
            with pytest.raises(RateLimited):
                await manager.submit(say())
            assert isinstance(await receipt.outcome(), Replied)
            await trio.sleep(20)

    program()


@pytest.mark.parametrize("buffer", [0, -1, 1.5, float("inf"), "10", None])
@simulated
async def test_a_wrong_buffer_is_refused(buffer: object) -> None:
    async with opened(echo) as manager:
        with pytest.raises(ValueError, match="buffer must be"):
            async with manager.events(buffer=buffer):  # type: ignore[arg-type]
                raise AssertionError
        assert str(await manager.ask(say())) == "re: hello"
