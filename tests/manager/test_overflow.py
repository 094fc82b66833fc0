"""What a message meets at the queue bound: `REJECT_NEW`, `SHED_LOWEST`, `WAIT`; and the other bounds."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from ccm import (
    ConversationFull,
    Draining,
    Overflow,
    Overloaded,
    RateLimit,
    RateLimited,
    Reason,
    Rejected,
    Replied,
    Shed,
    TooManySessions,
)

from .kit import Gate, Recorder, opened, say, simulated, takes

FULL: dict[str, Any] = {"limit": 1, "queue_limit": 2}


@simulated
async def test_reject_new_refuses_with_a_reason_and_a_time() -> None:
    """Trap 22: nothing is dropped without a word."""
    async with opened(takes(1), **FULL) as manager:
        for key in "abc":
            manager.submit_nowait(say("accepted", key))
        before = manager.statistics()
        with pytest.raises(Overloaded, match="overloaded: ") as caught:
            await manager.submit(say("refused", "d"))
        assert caught.value.reason is Reason.OVERLOADED
        assert caught.value.retry_after is not None
        assert 0 < caught.value.retry_after < 60
        after = manager.statistics()
        assert after.rejected == {"overloaded": 1}
        assert after.received == before.received + 1
        assert manager.session("d") is None
        await trio.sleep(1.5)
        await manager.submit(say("accepted now", "d"))


@simulated
async def test_a_burst_over_the_bound_is_counted_to_the_last_message() -> None:
    async with opened(takes(1), limit=5, headroom={}, queue_limit=10, drain=60) as manager:
        refused = 0
        for n in range(100):
            try:
                manager.submit_nowait(say("burst", f"{n}"))
            except Rejected:
                refused += 1
        assert refused == 85
        await manager.wait_idle()
        statistics = manager.statistics()
        assert statistics.conservation() == "100 received = 15 replied + 85 rejected"


@simulated
async def test_reserved_slots_are_usable_although_the_queue_is_full() -> None:
    """What would start at once needs no place in the queue."""
    async with opened(takes(1), limit=2, headroom={"CRITICAL": 1}, queue_limit=2) as manager:
        for key in "abc":
            manager.submit_nowait(say("normal", key))
        with pytest.raises(Overloaded):
            manager.submit_nowait(say("normal", "d"))
        receipt = manager.submit_nowait(say("critical", "e", priority=0))
        assert receipt.position == 0
        assert manager.statistics().running == 2


@simulated
async def test_shed_lowest_gives_up_the_youngest_of_the_least_urgent() -> None:
    gate = Gate()
    async with opened(gate, limit=1, queue_limit=4, overflow=Overflow.SHED_LOWEST) as manager:
        manager.submit_nowait(say("runs", "r"))
        waiting = {
            name: manager.submit_nowait(say(name, name, priority=priority))
            for name, priority in [("low 1", 3), ("low 2", 3), ("normal", 2), ("high", 1)]
        }
        manager.submit_nowait(say("new", "n", priority=2))
        outcome = await waiting["low 2"].outcome()
        assert outcome == Shed(Reason.DISPLACED, outcome.retry_after)  # type: ignore[attr-defined]
        assert outcome.retry_after is not None  # type: ignore[attr-defined]
        manager.submit_nowait(say("newer", "m", priority=2))
        assert isinstance(await waiting["low 1"].outcome(), Shed)
        with pytest.raises(Overloaded):  # nothing less urgent than itself is left
            manager.submit_nowait(say("newest", "o", priority=2))
        with pytest.raises(Overloaded):
            manager.submit_nowait(say("low", "p", priority=3))
        statistics = manager.statistics()
        assert (statistics.waiting, statistics.outcomes["shed"], statistics.outcomes["rejected"]) == (4, 2, 2)
        gate.open()
        assert isinstance(await waiting["normal"].outcome(), Replied)


@simulated
async def test_who_asked_for_a_shed_turn_is_told() -> None:
    gate = Gate()
    async with opened(gate, limit=1, queue_limit=1, overflow=Overflow.SHED_LOWEST) as manager:
        manager.submit_nowait(say("runs", "r"))
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(Shed) as caught:
                    await manager.ask(say("low", "l", priority=3))
                assert caught.value.reason is Reason.DISPLACED

            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            manager.submit_nowait(say("normal", "n"))
        gate.open()


@simulated
async def test_wait_lets_senders_in_first_come_first_served() -> None:
    accepted: list[tuple[float, str]] = []
    handler = Recorder(takes(1))
    async with opened(handler, **FULL, overflow=Overflow.WAIT, drain=60) as manager:
        for key in "abc":
            manager.submit_nowait(say(key, key))

        async def send(text: str) -> None:
            await manager.submit(say(text, text))
            accepted.append((trio.current_time(), text))

        async with trio.open_nursery() as nursery:
            for text in "defg":
                nursery.start_soon(send, text)
                await trio.testing.wait_all_tasks_blocked()
            statistics = manager.statistics()
            assert (statistics.senders, statistics.received, statistics.waiting) == (4, 3, 2)
    assert accepted == [(1, "d"), (2, "e"), (3, "f"), (4, "g")]
    assert handler.texts == list("abcdefg")


@simulated
async def test_wait_lets_nobody_overtake_the_senders_that_wait() -> None:
    async with opened(takes(2), **FULL, overflow=Overflow.WAIT, drain=60) as manager:
        for key in "abc":
            manager.submit_nowait(say(key, key))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(manager.submit, say("waits", "d"))
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.WouldBlock):
                manager.submit_nowait(say("urgent", "e", priority=0))
            assert manager.statistics().received == 3


@simulated
async def test_submit_nowait_would_block_and_leaves_no_trace() -> None:
    async with opened(takes(1), **FULL, overflow=Overflow.WAIT) as manager:
        for key in "abc":
            manager.submit_nowait(say(key, key))
        before = manager.statistics()
        with pytest.raises(trio.WouldBlock):
            manager.submit_nowait(say("d", "d", id="m1"))
        assert manager.statistics() == before
        assert manager.session("d") is None
        await trio.sleep(1.5)
        manager.submit_nowait(say("d", "d", id="m1"))


@simulated
async def test_a_cancelled_sender_leaves_no_trace() -> None:
    handler = Recorder(takes(4))
    async with opened(handler, **FULL, overflow=Overflow.WAIT, drain=60) as manager:
        for key in "abc":
            manager.submit_nowait(say(key, key))
        before = manager.statistics()
        async with trio.open_nursery() as nursery:
            for way in (manager.submit, manager.ask):
                with trio.move_on_after(1):
                    await way(say("gives up", "d"))
            nursery.start_soon(manager.submit, say("patient", "e"))
            with trio.move_on_after(1):
                await manager.ask(say("gives up", "f"))
            after = manager.statistics()
            assert (after.senders, after.received, after.waiting) == (1, before.received, before.waiting)
            assert manager.session("d") is manager.session("f") is None
    assert handler.texts == ["a", "b", "c", "patient"]
    assert manager.statistics().conservation() == "4 received = 4 replied"


@simulated
async def test_asking_waits_for_room_too() -> None:
    async with opened(takes(1), limit=1, queue_limit=1, overflow=Overflow.WAIT) as manager:
        for key in "ab":
            manager.submit_nowait(say(key, key))
        assert str(await manager.ask(say("c", "c"))) == "re: c"
        assert trio.current_time() == 3


@simulated
async def test_draining_refuses_the_senders_that_wait() -> None:
    async with opened(takes(1), **FULL, overflow=Overflow.WAIT) as manager:
        for key in "abc":
            manager.submit_nowait(say(key, key))

        async def send() -> None:
            with pytest.raises(Draining):
                await manager.submit(say("too late", "d"))
            assert trio.current_time() == 0

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            await manager.drain()
    assert manager.statistics().conservation() == "4 received = 3 replied + 1 rejected"


@simulated
async def test_a_waiting_sender_whose_message_became_invalid_is_told() -> None:
    """While it waited, another message of the same user used up the rate."""
    rate = RateLimit(1, per=100)
    async with opened(takes(1), limit=1, queue_limit=1, overflow=Overflow.WAIT, rate_limit=rate) as manager:
        for key in "ab":
            manager.submit_nowait(say(key, key, key))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(manager.submit, say("first", "c", "grace"))
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(RateLimited) as caught:
                await manager.submit(say("second", "d", "grace"))
            assert caught.value.retry_after == 100


@simulated
async def test_a_conversation_is_bounded() -> None:
    gate = Gate()
    async with opened(gate, conversation_limit=3) as manager:
        for n in range(4):
            manager.submit_nowait(say(f"{n}"))
        with pytest.raises(ConversationFull) as caught:
            manager.submit_nowait(say("fifth"))
        assert caught.value.reason is Reason.CONVERSATION_FULL
        manager.submit_nowait(say("elsewhere", "d"))
        gate.open()


@simulated
async def test_sessions_are_bounded() -> None:
    gate = Gate()
    async with opened(gate, max_sessions=2) as manager:
        for key in "ab":
            manager.submit_nowait(say(key, key))
        with pytest.raises(TooManySessions) as caught:
            manager.submit_nowait(say("c", "c"))
        assert caught.value.reason is Reason.TOO_MANY_SESSIONS
        manager.submit_nowait(say("known", "a"))
        gate.open()


@simulated
async def test_the_rate_limit_is_per_user_and_tells_exactly_when() -> None:
    async with opened(takes(0), rate_limit=RateLimit(2, per=8)) as manager:
        await manager.submit(say("1", "a"))
        await trio.sleep(3)
        await manager.submit(say("2", "b"))
        with pytest.raises(RateLimited) as caught:
            await manager.submit(say("3", "c"))
        assert caught.value.retry_after == 5
        await manager.submit(say("another user", "c", "grace"))
        await manager.submit(say("another tenant", "c", tenant="guild"))
        await trio.sleep(5)
        await manager.submit(say("3", "c"))


@simulated
async def test_wait_lets_not_even_those_overtake_who_could_start_at_once() -> None:
    """First come, first served among senders is the promise of `WAIT`; who wants classes to matter sheds."""
    settings = FULL | {"limit": 2, "headroom": {"CRITICAL": 1}, "queue_limit": 1}
    async with opened(takes(2), **settings, overflow=Overflow.WAIT) as manager:
        for key in "ab":
            manager.submit_nowait(say(key, key))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(manager.submit, say("waits", "c"))
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.WouldBlock):
                manager.submit_nowait(say("critical", "d", priority=0))
            await manager.submit(say("critical", "d", priority=0))
            assert trio.current_time() == 2
