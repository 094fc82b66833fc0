"""`Config.adaptive`: slots that follow what the provider can take."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
import trio.testing

import ccm
from ccm import AdaptiveLimit, Busy, ConfigError, HandlerFailed, RetryPolicy, Turn
from ccm import _events as events

from .kit import Gate, Handler, opened, say, simulated, takes

ONCE = RetryPolicy(attempts=1)


async def submit_all(manager: ccm.ConversationManager, count: int, **fields: Any) -> None:
    for number in range(count):
        await manager.submit(say(f"{number}", f"c{number}", f"u{number}", **fields))


async def busy_once(turn: Turn) -> str:
    await trio.lowlevel.checkpoint()
    if turn.attempt == 1:
        raise Busy(2.0)
    return "ok"


def busy_or(handler: Handler) -> Handler:
    """A handler that is told `Busy` once for the text "busy", and else does what `handler` does."""

    async def choose(turn: Turn) -> str | None:
        return await (busy_once(turn) if turn.text == "busy" else handler(turn))

    return choose


@simulated
async def test_busy_lowers_the_limit_and_it_is_told() -> None:
    async with AsyncExitStack() as streams:
        async with opened(busy_once, adaptive=True) as manager:
            stream = await streams.enter_async_context(manager.events())
            await manager.ask(say())
            assert manager.statistics().limit == 15
        told = [event async for event in stream if isinstance(event, events.LimitChanged)]
    assert told == [events.LimitChanged(0.0, "", 15, 50, 1.0)]


@simulated
async def test_reserved_slots_shrink_in_proportion() -> None:
    handler = Gate()
    async with opened(busy_or(handler), adaptive=True) as manager:
        await manager.ask(say("busy"))
        await submit_all(manager, 20)
        await trio.sleep(0.5)
        assert (manager.statistics().limit, manager.statistics().slots_in_use) == (15, 13)
        await submit_all(manager, 20, priority=ccm.CRITICAL)
        await trio.sleep(0.5)
        assert manager.statistics().slots_in_use == 15
        handler.open()
        await manager.wait_idle()


@simulated
async def test_time_outs_lower_it_and_other_ends_do_not() -> None:
    async def handler(turn: Turn) -> str:
        if turn.text == "error":
            raise ValueError(turn.text)
        await trio.sleep_forever()
        return ""

    async with opened(handler, adaptive=True, timeout=3.0, retry=ONCE) as manager:
        with pytest.raises(HandlerFailed):
            await manager.ask(say("error"))
        with trio.move_on_after(1.0):
            await manager.ask(say("the caller leaves"))
        with pytest.raises(ccm.Expired):
            await manager.ask(say("too late", deadline=trio.current_time() + 1.0))
        await manager.submit(say("stopped"))
        await trio.sleep(1.0)
        await manager.stop("c")
        assert manager.statistics().limit == 50
        with pytest.raises(HandlerFailed):
            await manager.ask(say("time-out"))
        assert manager.statistics().limit == 15


@simulated
async def test_who_answers_in_spite_of_the_time_out_has_timed_out() -> None:
    """Trap 15: handlers that make an excuse of their time-out must not look like health."""

    async def handler(turn: Turn) -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(3.0)
        return "late"

    async def raises(turn: Turn) -> str:
        await handler(turn)
        raise ValueError("late")

    async with opened(handler, adaptive=True, timeout=2.0) as manager:
        await manager.ask(say())
        assert manager.statistics().limit == 15
    async with opened(raises, adaptive=True, timeout=2.0, retry=ONCE) as manager:
        with pytest.raises(HandlerFailed):
            await manager.ask(say())
        assert manager.statistics().limit == 15


@simulated
async def test_a_raise_starts_all_that_may_start() -> None:
    """Law G7: the worker whose attempt ended takes one turn, the others need workers, too."""
    policy = AdaptiveLimit(increase=5.0, floor=5)
    async with opened(busy_or(takes(1.0)), adaptive=policy, headroom={}) as manager:
        for _ in range(3):
            await manager.ask(say("busy"))
        assert manager.statistics().limit == 5
        await submit_all(manager, 40)
        in_use = []
        for _ in range(4):
            await trio.sleep(1.0)
            await trio.testing.wait_all_tasks_blocked()
            in_use.append((manager.statistics().limit, manager.statistics().slots_in_use))
        assert in_use == [(5, 5), (10, 10), (15, 15), (20, 5)]


@simulated
async def test_a_decrease_may_let_a_turn_start_too() -> None:
    """Law G7: of 50 slots 10 are reserved, of 49 only 8."""

    async def handler(turn: Turn) -> str:
        await trio.sleep(0.5 if turn.text == "0" else 10.0)
        return await busy_once(turn) if turn.text == "0" else "ok"

    async with opened(handler, adaptive=True) as manager:
        await submit_all(manager, 46)
        await trio.sleep(1.0)
        statistics = manager.statistics()
        assert (statistics.limit, statistics.slots_in_use, statistics.waiting) == (49, 41, 4)
        await manager.wait_idle()


@simulated
async def test_it_grows_although_some_slots_are_reserved() -> None:
    """Only NORMAL turns, which can never use all slots: that the rest is free is no lack of demand."""
    async with opened(busy_or(takes(1.0)), adaptive=AdaptiveLimit(), limit=20) as manager:
        for _ in range(3):
            await manager.ask(say("busy"))
        assert manager.statistics().limit == 2
        await submit_all(manager, 250, priority=ccm.NORMAL)
        await manager.wait_idle()
        assert manager.statistics().limit == 20
        assert manager.statistics().peak_running == 17


@simulated
async def test_fallbacks_are_no_signal() -> None:
    async def handler(turn: Turn) -> str:
        await trio.lowlevel.checkpoint()
        raise ValueError("down")

    async def fallback(turn: Turn) -> str:
        await trio.lowlevel.checkpoint()
        raise Busy(1.0)

    async with opened(handler, fallback=fallback, adaptive=True, retry=ONCE) as manager:
        with pytest.raises(HandlerFailed):
            await manager.ask(say())
        assert manager.statistics().limit == 50


@simulated
async def test_a_low_limit_leaves_room_for_excuses() -> None:
    """Fallbacks run beside the slots, as many as the configured limit: a low one is when they are needed."""
    excuses = Gate()
    policy = AdaptiveLimit(floor=1, decrease=0.99)

    async def handler(turn: Turn) -> str:
        if turn.text == "busy":
            return await busy_once(turn)
        await trio.sleep(100.0)
        return ""

    async with opened(handler, fallback=excuses, adaptive=policy, limit=8, max_wait={ccm.NORMAL: 1.0}) as m:
        await m.ask(say("busy"))
        assert m.statistics().limit == 1
        await submit_all(m, 12)
        await trio.sleep(2.0)
        assert m.statistics().fallbacks == 8
        excuses.open()


class Own:
    """A controller that remembers what it is told, and starts low."""

    def __init__(self, ceiling: int) -> None:
        self.limit = ceiling // 2
        self.seen: list[tuple[float, int, bool, bool]] = []

    def observe(self, now: float, running: int, *, overloaded: bool, full: bool) -> int:
        self.seen.append((now, running, overloaded, full))
        self.limit += 3
        return self.limit


@simulated
async def test_one_may_bring_a_controller() -> None:
    made: list[Own] = []

    def make(ceiling: int) -> Own:
        made.append(Own(ceiling))
        return made[-1]

    async def handler(turn: Turn) -> str:
        await trio.sleep(float(turn.text))
        if turn.text == "2" and turn.attempt == 1:
            raise Busy(5.0)
        return "ok"

    async with opened(handler, adaptive=make, limit=4, headroom={}) as manager:
        assert manager.statistics().limit == 2
        for text in "123":
            await manager.submit(say(text, text, text))
        await manager.wait_idle()
        assert manager.statistics().limit == 4
    assert made[0].seen == [
        (1.0, 2, False, True),
        (2.0, 2, True, False),
        (4.0, 1, False, False),
        (9.0, 1, False, False),
    ]


@simulated
async def test_a_function_that_makes_no_controller_is_named() -> None:
    config = ccm.Config(adaptive=lambda ceiling: None)
    with pytest.raises(ConfigError, match=r"adaptive must be a function that returns an object .*, got None"):
        async with ccm.open_manager(busy_once, config=config):
            raise AssertionError("it was opened")


@simulated
async def test_switched_off_the_manager_has_no_limit() -> None:
    async with opened(busy_once, adaptive=True, enabled=False) as manager:
        assert str(await manager.ask(say())) == "ok"
        assert manager.statistics().limit > 1_000_000
