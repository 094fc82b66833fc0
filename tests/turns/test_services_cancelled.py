"""Law G10 for services: cancel a caller, a sender or the manager at any step, and nothing is left behind."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

import ccm
from ccm import RetryPolicy, Service
from ccm.testing import simulate
from tests.manager.kit import echo, opened, say, simulated
from tests.turns.service_kit import Worker, at_every_step

# Each example is as many runs as the program has steps.
FEW = settings(max_examples=settings().max_examples // 5)


@simulated
async def test_a_cancelled_caller_takes_its_item_along() -> None:
    worker = Worker(2)
    async with opened(echo) as manager:
        manager.service("work", worker)
        with trio.move_on_after(1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(manager.call, "work", "running")
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(manager.call, "work", "waiting")
        assert await manager.call("work", "next") == "did next"
        assert trio.current_time() == 3
        figures = manager.statistics().services["work"]
        assert (figures.done, figures.cancelled) == (1, 2)
    assert worker.order == ["running", "next"]
    assert worker.cancelled == ["running"]


@simulated
async def test_a_cancelled_sender_leaves_nothing_and_its_place_to_others() -> None:
    worker = Worker()
    async with opened(echo) as manager:
        manager.service("work", worker, queue=1)
        manager.send_nowait("work", "runs")
        manager.send_nowait("work", "waits")
        with trio.move_on_after(0.5):
            await manager.send("work", "gives up")
        await manager.send("work", "comes in")
        await manager.wait_idle()
    assert worker.order == ["runs", "waits", "comes in"]
    assert manager.statistics().services["work"].received == 3


@simulated
async def test_whoever_is_cancelled_hands_nothing_in() -> None:
    async with opened(echo) as manager:
        manager.service("work", Worker())
        for hand_in in (manager.send, manager.call):
            with trio.CancelScope() as scope:
                scope.cancel()
                await hand_in("work", 1)
            assert scope.cancelled_caught
        assert manager.statistics().services["work"].received == 0


@simulated
async def test_the_place_of_a_cancelled_item_goes_to_a_sender_at_once() -> None:
    worker = Worker(4)
    came: list[float] = []

    async def send() -> None:
        await manager.send("work", "comes in")
        came.append(trio.current_time())

    async with opened(echo) as manager, trio.open_nursery() as nursery:
        manager.service("work", worker, queue=1)
        manager.send_nowait("work", "runs")
        with trio.move_on_after(1):
            async with trio.open_nursery() as callers:
                callers.start_soon(manager.call, "work", "waits")
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(send)
    assert came == [1]
    assert worker.order == ["runs", "comes in"]


@simulated
async def test_a_cancelled_item_whose_function_raises_is_cancelled_and_not_tried_again() -> None:
    async def work(data: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("the connection is in the middle of something")

    async with opened(echo) as manager:
        service = manager.service("work", work)
        with trio.move_on_after(1):
            await service.call("x")
        await manager.wait_idle()
    figures = service.statistics()
    assert (figures.cancelled, figures.errors, manager.dead_letters()) == (1, 0, [])


@simulated
async def test_services_are_there_while_turns_of_a_cancelled_manager_clean_up() -> None:
    saved: list[str] = []

    async def save(data: str) -> None:
        await trio.sleep(0.25)
        saved.append(data)

    async def handler(turn: ccm.Turn) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await turn.call("save", turn.text)

    with trio.CancelScope() as scope:
        async with opened(handler) as manager:
            service = manager.service("save", save)
            manager.send_nowait("save", "before")
            await manager.submit(say("partial"))
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            await trio.sleep_forever()
    assert saved == ["before", "partial"]
    assert service.statistics().errors == 0


@simulated
async def test_services_of_a_cancelled_manager_have_the_time_of_its_drain() -> None:
    worker = Worker(2)
    with trio.move_on_after(1):
        async with opened(echo, drain=4.5) as manager:
            manager.service("work", worker)
            for data in "abcd":
                manager.send_nowait("work", data)
            await trio.sleep_forever()
    assert trio.current_time() == 5.5
    assert worker.order == ["a", "b", "c"]
    assert worker.cancelled == ["c"]
    figures = manager.statistics().services["work"]
    assert (figures.done, figures.cancelled) == (2, 2)


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_service_that_does_not_end_is_named(cancelled: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def work(data: int) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(9)

    async def program() -> None:
        with trio.CancelScope() as scope:
            async with opened(echo, drain=2) as manager:
                manager.service("sound", Worker(9))
                manager.service("stubborn", work)
                for name in ("sound", "stubborn"):
                    manager.send_nowait(name, 1)
                if cancelled:
                    scope.cancel()
                    await trio.sleep_forever()
        assert trio.current_time() == 9
        figures = manager.statistics().services["stubborn"]
        assert (figures.done, figures.processing) == (1, 0)

    simulate(program)
    (warning,) = [record for record in caplog.records if "does not end" in record.message]
    assert "service 'stubborn'" in warning.message


@simulated
async def test_what_turns_of_a_cancelled_manager_ask_for_is_tried_again_too() -> None:
    saved: list[tuple[float, str]] = []

    async def save(data: str) -> None:
        await trio.lowlevel.checkpoint()
        if Service.current().attempt == 1:
            raise ccm.Busy(retry_after=0.25)
        saved.append((trio.current_time(), data))

    async def handler(turn: ccm.Turn) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await turn.call("save", turn.text)

    with trio.move_on_after(1):
        async with opened(handler, drain=2) as manager:
            manager.service("save", save, retry=RetryPolicy(attempts=2, base=0))
            manager.send_nowait("save", "waits for its second attempt")
            await manager.submit(say("partial"))
            await trio.sleep_forever()
    assert saved == [(0.25, "waits for its second attempt"), (3.25, "partial")]


@FEW
@given(seed=st.integers(0, 1000))
def test_cancel_a_caller_at_every_step(seed: int) -> None:
    """Law G10: nothing is left of who went, and whoever stays gets the answer."""

    async def program(scope: trio.CancelScope) -> None:
        worker, answers = Worker(), list[Any]()

        async with opened(echo) as manager:
            manager.service("work", worker, concurrency=2, queue=2)

            async def call(data: str) -> None:
                answers.append(await manager.call("work", data))

            async with trio.open_nursery() as nursery:
                for data in "abc":
                    nursery.start_soon(call, data)
                with scope:
                    await manager.send("work", "x")
                    await manager.call("work", "y")
            await manager.wait_idle()
            figures = manager.statistics().services["work"]
            figures.check()
            assert (figures.waiting, figures.processing, figures.senders) == (0, 0, 0)
        assert sorted(answers) == ["did a", "did b", "did c"]
        assert worker.peak <= 2

    at_every_step(program, seed)


@FEW
@given(seed=st.integers(0, 1000))
def test_a_send_is_cancelled_or_accepted_but_never_both(seed: int) -> None:
    async def program(scope: trio.CancelScope) -> None:
        worker, sent = Worker(), list[str]()

        async with opened(echo) as manager:
            manager.service("work", worker, queue=1)
            with scope:
                for data in "abcd":  # the first ones are accepted at once, the others wait for room
                    await manager.send("work", data)
                    sent.append(data)
            await manager.wait_idle()
        assert worker.order == sent

    at_every_step(program, seed)


@FEW
@given(seed=st.integers(0, 1000))
def test_cancel_the_manager_at_every_step(seed: int) -> None:
    async def program(scope: trio.CancelScope) -> None:
        worker = Worker(0.25)
        services: list[Service] = []
        tries: list[int] = []

        async def fails(data: int) -> None:
            await trio.sleep(0.25)
            tries.append(data)
            raise OSError

        async def handler(turn: ccm.Turn) -> str:
            return str(await turn.call("work", turn.text))

        async with trio.open_nursery() as nursery:
            with scope:
                async with opened(handler, drain=0.5) as manager:
                    services += [
                        manager.service("work", worker, queue=1),
                        manager.service("fails", fails, retry=RetryPolicy(attempts=9, base=0.25)),
                    ]
                    for number, data in ((0, 1), (0, 2), (0, 3), (1, 4)):
                        nursery.start_soon(_send, services[number], data)
                    await manager.submit(say("5"))
                    await trio.sleep(0.5)
        for service in services:
            figures = service.statistics()
            figures.check()
            service._queue._check()
            assert (figures.waiting, figures.processing, figures.retrying, figures.senders) == (0, 0, 0, 0)
        assert worker.running == 0

    at_every_step(program, seed)


async def _send(service: Service, data: int) -> None:
    with suppress(trio.ClosedResourceError):
        await service.send(data)
