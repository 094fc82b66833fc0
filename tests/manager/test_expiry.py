"""Turns that waited too long, and messages whose deadline passed: `Expired`, at the exact time."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from ccm import Busy, Expired, Overflow, Replied, RetryPolicy, Router, Turn

from .kit import Recorder, echo, opened, say, simulated, takes


@simulated
async def test_a_turn_that_waited_too_long_expires_at_that_time() -> None:
    """Not when it would have been its turn."""
    handler = Recorder(takes(20))
    async with opened(handler, limit=1, max_wait={"NORMAL": 2.5}, timeout=60, drain=60) as manager:
        manager.submit_nowait(say("runs", "a"))
        await trio.sleep(1)
        receipt = manager.submit_nowait(say("waits", "b"))
        assert await receipt.outcome() == Expired()
        assert trio.current_time() == 3.5
        assert manager.statistics().outcomes["expired"] == 1
    assert handler.texts == ["runs"]


@simulated
async def test_each_class_has_its_own_patience() -> None:
    ended: list[tuple[float, int]] = []
    patience = {"CRITICAL": 1, "HIGH": 2, "LOW": 4}
    async with opened(takes(20), limit=1, max_wait=patience, timeout=60, drain=60) as manager:
        manager.submit_nowait(say("runs", "a"))

        async def wait(priority: int) -> None:
            receipt = manager.submit_nowait(say("waits", f"{priority}", priority=priority))
            outcome = await receipt.outcome()
            ended.append((trio.current_time(), priority))
            assert isinstance(outcome, Replied if priority == 2 else Expired)

        async with trio.open_nursery() as nursery:
            for priority in range(4):
                nursery.start_soon(wait, priority)
    assert ended == [(1, 0), (2, 1), (4, 3), (40, 2)]


@simulated
async def test_a_route_may_have_its_own_patience() -> None:
    router = Router()
    router.route("chat", max_wait=1)(takes(5))
    async with opened(router, limit=1, max_wait={"NORMAL": 3}, drain=10) as manager:
        manager.submit_nowait(say("runs", "a"))
        with pytest.raises(Expired):
            await manager.ask(say("waits", "b"))
        assert trio.current_time() == 1


@simulated
async def test_a_turn_that_started_in_time_does_not_expire() -> None:
    async with opened(takes(2), limit=1, max_wait={"NORMAL": 2.5}) as manager:
        first = manager.submit_nowait(say("runs", "a"))
        second = manager.submit_nowait(say("waits 2 s, runs 2 s", "b"))
        assert isinstance(await first.outcome(), Replied)
        assert isinstance(await second.outcome(), Replied)
        assert trio.current_time() == 4


@simulated
async def test_the_turn_behind_an_expired_one_moves_up() -> None:
    handler = Recorder(takes(3))
    async with opened(handler, drain=20) as manager:
        manager.submit_nowait(say("runs"))
        expires = manager.submit_nowait(say("expires", deadline=1))
        follows = manager.submit_nowait(say("follows"))
        assert isinstance(await expires.outcome(), Expired)
        assert trio.current_time() == 1
        assert isinstance(await follows.outcome(), Replied)
    assert handler.starts == [(0, "runs"), (3, "follows")]


@simulated
async def test_the_earlier_of_patience_and_deadline_counts() -> None:
    async with opened(takes(20), limit=1, max_wait={"NORMAL": 3}, timeout=60, drain=60) as manager:
        manager.submit_nowait(say("runs", "a"))
        for deadline, expected in [(2, 2), (100, 5)]:
            with pytest.raises(Expired):
                await manager.ask(say("waits", "b", deadline=deadline))
            assert trio.current_time() == expected


@simulated
async def test_a_message_whose_deadline_has_passed_never_starts() -> None:
    handler = Recorder(echo)
    async with opened(handler) as manager:
        await trio.sleep(10)
        for deadline in (9, 10, float("-inf")):
            with pytest.raises(Expired):
                await manager.ask(say(deadline=deadline))
        assert trio.current_time() == 10
        assert manager.statistics().outcomes["expired"] == 3
        assert str(await manager.ask(say(deadline=11))) == "re: hello"
    assert len(handler.starts) == 1


@simulated
async def test_a_running_turn_is_cancelled_at_the_messages_deadline() -> None:
    handler = Recorder(takes(10))
    async with opened(handler, retry=RetryPolicy(attempts=3, base=0)) as manager:
        with pytest.raises(Expired):
            await manager.ask(say(deadline=4))
        assert trio.current_time() == 4
        assert manager.statistics().routes["chat"].timeouts == 0
    assert handler.ends == [(4, "hello", "cancelled")]
    assert [turn.deadline for turn in handler.turns] == [4]


@simulated
async def test_a_retrying_turn_expires_at_the_messages_deadline() -> None:
    async def act(turn: Turn) -> str:
        raise Busy(60)

    handler = Recorder(act)
    async with opened(handler) as manager:
        with pytest.raises(Expired):
            await manager.ask(say(deadline=4))
        assert trio.current_time() == 4
        assert manager.statistics().retrying == 0
    assert len(handler.starts) == 1


@simulated
async def test_patience_ends_with_the_first_start() -> None:
    """`max_wait` bounds the wait for the first attempt; retries have the policy and the deadline."""

    async def act(turn: Turn) -> str:
        if turn.attempt == 1:
            raise Busy(10)
        return "fine"

    async with opened(act, max_wait={"NORMAL": 1}) as manager:
        assert str(await manager.ask(say())) == "fine"
        assert trio.current_time() == 10


@simulated
async def test_a_deadline_on_the_dot_lets_the_handler_that_ends_then_answer_or_expire_never_both() -> None:
    async with opened(takes(4)) as manager:
        receipt = manager.submit_nowait(say(deadline=4))
        outcome = await receipt.outcome()
        assert isinstance(outcome, (Replied, Expired))
        assert sum(manager.statistics().outcomes.values()) == 1


@simulated
async def test_expiry_makes_room_for_waiting_senders() -> None:
    settings: dict[str, Any] = {"limit": 1, "queue_limit": 1, "overflow": Overflow.WAIT, "drain": 60}
    async with opened(takes(20), **settings) as manager:
        manager.submit_nowait(say("runs", "a"))
        manager.submit_nowait(say("expires", "b", deadline=3))
        await manager.submit(say("waits for room", "c"))
        assert trio.current_time() == 3
