"""The clock of events: virtual time jumps to what comes next, and Trio's own deadlines keep their place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio

from ccm.testing import FakeModel, constant
from ccm.testing._clock import EventClock, sleep


def run(program: Callable[[EventClock], Awaitable[Any]]) -> Any:
    clock = EventClock(lambda: pytest.fail("nothing is left to happen"))
    return trio.run(program, clock, clock=clock)


def test_sleeps_and_calls_happen_in_the_order_of_time() -> None:
    seen: list[tuple[float, str]] = []

    async def program(clock: EventClock) -> None:
        async def sleeper(name: str, seconds: float, how: Callable[[float], Awaitable[None]]) -> None:
            await how(seconds)
            seen.append((trio.current_time(), name))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleeper, "cheap", 3.0, sleep)
            nursery.start_soon(sleeper, "trio's", 2.0, trio.sleep)
            nursery.start_soon(sleeper, "cheap", 0.5, sleep)
            clock.call_at(1.0, lambda: seen.append((clock.now, "call")))

    run(program)
    assert seen == [(0.5, "cheap"), (1.0, "call"), (2.0, "trio's"), (3.0, "cheap")]


def test_things_of_one_time_happen_in_the_order_in_which_they_were_asked_for() -> None:
    seen: list[int] = []

    async def program(clock: EventClock) -> None:
        for number in range(20):
            clock.call_at(1.0, partial(seen.append, number))
        await clock.sleep_until(1.0)
        assert seen == list(range(20))

    run(program)


def test_everybody_acts_before_time_goes_on() -> None:
    seen: list[float] = []

    async def program(clock: EventClock) -> None:
        async def worker() -> None:
            for _ in range(50):
                await trio.lowlevel.checkpoint()
            seen.append(clock.now)

        async with trio.open_nursery() as nursery:
            clock.call_at(1.0, lambda: nursery.start_soon(worker))
            clock.call_at(2.0, lambda: seen.append(-clock.now))
            await sleep(3)

    run(program)
    assert seen == [1.0, -2.0]


def test_a_cancelled_sleep_is_over_at_once_and_forgotten() -> None:
    async def program(clock: EventClock) -> None:
        with trio.move_on_after(1.5):
            await sleep(10)
        assert trio.current_time() == 1.5
        with trio.CancelScope() as scope:
            scope.cancel()
            await sleep(10)
        assert trio.current_time() == 1.5
        await sleep(0.25)
        assert trio.current_time() == 1.75
        await sleep(20)  # past the times of those that were given up
        assert trio.current_time() == 21.75

    run(program)


def test_what_is_due_already_happens_now() -> None:
    async def program(clock: EventClock) -> None:
        await sleep(5)
        await clock.sleep_until(1.0)
        assert clock.now == 5.0

    run(program)


def test_an_error_of_a_call_is_kept_and_ends_the_calls() -> None:
    seen: list[str] = []

    async def program(clock: EventClock) -> None:
        def fail() -> None:
            raise ValueError("at its time")

        with trio.CancelScope() as scope:
            clock.on_error = scope.cancel
            clock.call_at(1.0, fail)
            clock.call_at(1.0, lambda: seen.append("later"))
            await trio.sleep_forever()
        await sleep(1)
        assert scope.cancelled_caught
        assert str(clock.error) == "at its time"

    run(program)
    assert seen == []


def test_it_says_when_nothing_is_left_to_happen() -> None:
    stuck: list[float] = []

    async def program() -> None:
        with scope:
            await sleep(2)
            await trio.sleep_forever()

    def give_up() -> None:
        stuck.append(clock.now)
        scope.cancel()

    scope = trio.CancelScope()
    clock = EventClock(give_up)
    trio.run(program, clock=clock)
    assert stuck == [2.0]


def test_elsewhere_sleep_is_trios() -> None:
    async def program() -> float:
        await sleep(3)
        return trio.current_time()

    assert trio.run(program, clock=trio.testing.MockClock(autojump_threshold=0)) == 3.0


def test_a_fake_model_sleeps_on_it() -> None:
    class Turn:
        attempt = 1

        class message:
            generated_id = False
            id = tenant = text = "x"

    async def program(clock: EventClock) -> float:
        await FakeModel(latency=constant(7))(Turn())  # type: ignore[arg-type]
        return clock.now

    assert run(program) == 7.0
