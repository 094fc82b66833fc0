"""`Config.preempt`: with no slot left, a CRITICAL turn takes one from the youngest LOW turn."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import trio

from ccm import CRITICAL, HIGH, LOW, Replied, Turn

from .kit import Recorder, opened, say, simulated, takes

SETTINGS: dict[str, Any] = {"limit": 2, "headroom": {}, "preempt": True, "drain": 100}


@simulated
async def test_critical_takes_the_slot_of_the_youngest_low_turn() -> None:
    handler = Recorder(takes(10))
    async with opened(handler, **SETTINGS) as manager:
        manager.submit_nowait(say("old low", "a", priority=LOW))
        await trio.sleep(1)
        young = manager.submit_nowait(say("young low", "b", priority=LOW))
        await trio.sleep(1)
        urgent = manager.submit_nowait(say("critical", "d", priority=CRITICAL))
        await urgent.outcome()
        assert trio.current_time() == 12
        assert isinstance(await young.outcome(), Replied)
    assert handler.starts == [(0, "old low"), (1, "young low"), (2, "critical"), (10, "young low")]
    assert handler.ends[0] == (2, "young low", "cancelled")


@simulated
async def test_the_interrupted_attempt_is_not_counted() -> None:
    handler = Recorder(takes(10))
    async with opened(handler, **SETTINGS | {"limit": 1}) as manager:
        low = manager.submit_nowait(say("low", "a", priority=LOW))
        await trio.sleep(1)
        manager.submit_nowait(say("critical", "b", priority=CRITICAL))
        assert isinstance(await low.outcome(), Replied)
        route = manager.statistics().routes["chat"]
        assert (route.failed_attempts, route.retries, route.timeouts) == (0, 0, 0)
        assert manager.statistics().conservation() == "2 received = 2 replied"
    assert [turn.attempt for turn in handler.turns] == [1, 1, 1]


@simulated
async def test_the_interrupted_turn_keeps_its_place_in_its_conversation() -> None:
    handler = Recorder(takes(2))
    async with opened(handler, **SETTINGS | {"limit": 1}) as manager:
        for text in ("low 1", "low 2"):
            manager.submit_nowait(say(text, "a", priority=LOW))
        await trio.sleep(1)
        manager.submit_nowait(say("critical", "b", priority=CRITICAL))
        await manager.wait_idle()
    assert handler.texts == ["low 1", "critical", "low 1", "low 2"]


@simulated
async def test_each_critical_turn_takes_one_slot() -> None:
    handler = Recorder(takes(10))
    async with opened(handler, **SETTINGS) as manager:
        for key in "ab":
            manager.submit_nowait(say("low", key, priority=LOW))
        await trio.sleep(1)
        for key in "de":
            manager.submit_nowait(say("critical", key, priority=CRITICAL))
        await trio.sleep(1)
        statistics = manager.statistics()
        assert (statistics.running, statistics.waiting) == (2, 2)
        await manager.wait_idle()
        assert trio.current_time() == 21
    assert handler.texts == ["low", "low", "critical", "critical", "low", "low"]
    assert handler.peak == 2


@simulated
async def test_only_critical_preempts_and_only_low_is_preempted() -> None:
    handler = Recorder(takes(10))
    async with opened(handler, **SETTINGS) as manager:
        manager.submit_nowait(say("low", "a", priority=LOW))
        manager.submit_nowait(say("normal", "b"))
        await trio.sleep(1)
        manager.submit_nowait(say("high", "d", priority=HIGH))
        assert manager.statistics().running == 2
        for key in "ef":
            manager.submit_nowait(say("critical", key, priority=CRITICAL))
        await manager.wait_idle()
    assert sorted(handler.starts) == [
        (0, "low"),
        (0, "normal"),
        (1, "critical"),
        (10, "critical"),
        (11, "high"),
        (20, "low"),
    ]


@simulated
async def test_a_free_slot_is_taken_before_anybody_is_interrupted() -> None:
    handler = Recorder(takes(5))
    async with opened(handler, **SETTINGS) as manager:
        manager.submit_nowait(say("low", "a", priority=LOW))
        await trio.sleep(1)
        manager.submit_nowait(say("critical", "b", priority=CRITICAL))
    assert [how for _, _, how in handler.ends] == ["returned", "returned"]


@simulated
async def test_a_critical_turn_behind_its_own_conversation_interrupts_nobody() -> None:
    handler = Recorder(takes(5))
    async with opened(handler, **SETTINGS) as manager:
        manager.submit_nowait(say("normal", "a"))
        manager.submit_nowait(say("low", "b", priority=LOW))
        await trio.sleep(1)
        manager.submit_nowait(say("critical", "a", priority=CRITICAL))
    assert [how for _, _, how in handler.ends] == ["returned"] * 3


@simulated
async def test_a_low_turn_that_answers_all_the_same_has_answered() -> None:
    async def act(turn: Turn) -> str:
        with suppress(*[trio.Cancelled] * (turn.text == "low")):
            await trio.sleep(10)
            return "long"
        return "short"

    async with opened(act, **SETTINGS | {"limit": 1}) as manager:
        low = manager.submit_nowait(say("low", "a", priority=LOW))
        await trio.sleep(1)
        manager.submit_nowait(say("critical", "b", priority=CRITICAL))
        outcome = await low.outcome()
        assert isinstance(outcome, Replied)
        assert (outcome.reply.text, trio.current_time()) == ("short", 1)


@simulated
async def test_an_interrupted_turn_that_had_started_in_time_does_not_expire() -> None:
    async with opened(takes(4), **SETTINGS | {"limit": 1, "max_wait": {"LOW": 2}}) as manager:
        low = manager.submit_nowait(say("low", "a", priority=LOW))
        await trio.sleep(3)
        manager.submit_nowait(say("critical", "b", priority=CRITICAL))
        assert isinstance(await low.outcome(), Replied)
        assert trio.current_time() == 11


@simulated
async def test_without_preempt_nobody_is_interrupted() -> None:
    handler = Recorder(takes(5))
    async with opened(handler, **SETTINGS | {"limit": 1, "preempt": False}) as manager:
        manager.submit_nowait(say("low", "a", priority=LOW))
        await trio.sleep(1)
        with trio.fail_after(100):
            await manager.ask(say("critical", "b", priority=CRITICAL))
        assert trio.current_time() == 10


@pytest.mark.parametrize("by", ["caller", "drain"])
@simulated
async def test_a_low_turn_waiting_for_its_slot_again_can_be_cancelled(by: str) -> None:
    handler = Recorder(takes(10))
    async with (
        opened(handler, **SETTINGS | {"limit": 1, "drain": 3}) as manager,
        trio.open_nursery() as nursery,
    ):
        scope = trio.CancelScope()

        async def ask() -> None:
            with scope:
                await manager.ask(say("low", "a", priority=LOW))

        if by == "caller":
            nursery.start_soon(ask)
        else:
            await manager.submit(say("low", "a", priority=LOW))
        await trio.sleep(1)
        await manager.submit(say("critical", "b", priority=CRITICAL))
        await trio.sleep(1)
        scope.cancel()
    assert manager.statistics().outcomes["cancelled"] == 2 if by == "drain" else 1
    assert handler.texts == ["low", "critical"]


@simulated
async def test_who_stops_asking_while_the_turn_is_interrupted_gets_no_answer() -> None:
    async def act(turn: Turn) -> str:
        try:
            await trio.sleep(10)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
        return ""

    handler = Recorder(act)
    async with opened(handler, **SETTINGS | {"limit": 1}) as manager, trio.open_nursery() as nursery:

        async def ask() -> None:
            with trio.move_on_after(2.5):
                await manager.ask(say("low", "a", priority=LOW))

        nursery.start_soon(ask)
        await trio.sleep(2)
        await manager.submit(say("critical", "b", priority=CRITICAL))
    assert handler.texts == ["low", "critical"]
    assert manager.statistics().conservation() == "2 received = 1 replied + 1 cancelled"


@simulated
async def test_an_interrupted_turn_waits_once_in_the_figures() -> None:
    async with opened(takes(10), **SETTINGS | {"limit": 1}) as manager:
        manager.submit_nowait(say("low", "a", priority=LOW))
        await trio.sleep(1)
        manager.submit_nowait(say("critical", "b", priority=CRITICAL))
        await manager.wait_idle()
        assert manager.statistics().wait[LOW].count == 1
