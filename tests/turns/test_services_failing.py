"""Services that fail: tried again, alone, kept as dead letters; and cycles, which are refused."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import ccm
from ccm import HIGH, LOW, RetryPolicy, Service, ServiceStatistics
from tests.manager.kit import echo, opened, say, simulated, takes
from tests.turns.service_kit import ONCE, Worker


@simulated
async def test_a_failed_item_is_tried_again_at_its_place_and_told_so() -> None:
    attempts: list[tuple[int, int]] = []

    async def work(data: int) -> str:
        await trio.lowlevel.checkpoint()
        attempts.append((data, Service.current().attempt))
        if data == 0 and len(attempts) < 3:
            raise OSError("not yet")
        return "done"

    async with opened(echo) as manager:
        manager.service("work", work, retry=RetryPolicy(attempts=3, base=0))
        assert await manager.call("work", 0) == "done"
    assert attempts == [(0, 1), (0, 2), (0, 3)]
    figures = manager.statistics().services["work"]
    assert (figures.done, figures.errors, figures.retries, figures.dead) == (1, 2, 2, 0)


@simulated
async def test_what_fails_for_good_is_a_dead_letter_and_the_callers_error() -> None:
    async def work(data: str) -> None:
        await trio.sleep(1)
        raise OSError(data)

    async with opened(echo) as manager:
        manager.service("work", work)
        with pytest.raises(ccm.HandlerFailed) as caught:
            await manager.call("work", "no disk", source="test", priority=LOW)
        assert isinstance(caught.value.__cause__, OSError)
        (letter,) = manager.dead_letters()
        assert letter.id == caught.value.dead_letter
        assert (letter.service, letter.data, letter.source, letter.priority) == (
            "work",
            "no disk",
            "test",
            LOW,
        )
        assert (letter.message, letter.route, letter.attempts) == (None, "", 3)
        assert letter.error == "OSError('no disk')"
        assert letter.text == "'no disk'"


@simulated
async def test_permanent_and_busy_mean_what_they_mean_in_a_handler() -> None:
    calls: list[float] = []

    async def work(data: str) -> str:
        await trio.lowlevel.checkpoint()
        calls.append(trio.current_time())
        if data == "never":
            raise ccm.Permanent
        if len(calls) < 6:
            raise ccm.Busy(retry_after=2)
        return "at last"

    async with opened(echo) as manager:
        manager.service("work", work, retry=RetryPolicy(attempts=1, base=0))
        assert await manager.call("work", "busy") == "at last"
        assert calls == [0, 2, 4, 6, 8, 10]
        with pytest.raises(ccm.HandlerFailed):
            await manager.call("work", "never")
        assert len(calls) == 7
        (letter,) = manager.dead_letters()
        assert (letter.data, letter.attempts) == ("never", 1)


@simulated
async def test_items_that_fail_together_do_not_come_back_together() -> None:
    """Full jitter: or whatever they failed at would get them all at once again."""
    again: set[float] = set()

    async def work(data: int) -> None:
        await trio.lowlevel.checkpoint()
        if Service.current().attempt == 1:
            raise OSError
        again.add(trio.current_time())

    async with opened(echo) as manager:
        manager.service("work", work, concurrency=20, retry=RetryPolicy(attempts=2, base=4))
        for n in range(20):
            manager.send_nowait("work", n)
        await manager.wait_idle()
    assert len(again) > 10
    assert max(again) <= 4


@simulated
async def test_each_service_tries_again_in_its_own_time() -> None:
    """One timekeeper serves them all: a later deadline of another service must not hide an earlier one."""
    begun: list[tuple[str, float]] = []

    def fails_once(name: str, retry_after: float) -> Any:
        async def work(data: int) -> None:
            await trio.lowlevel.checkpoint()
            begun.append((name, trio.current_time()))
            if Service.current().attempt == 1:
                raise ccm.Busy(retry_after=retry_after)

        return work

    async with opened(echo) as manager:
        for name, retry_after in (("late", 9), ("soon", 2), ("between", 5)):
            manager.service(name, fails_once(name, retry_after), retry=RetryPolicy(attempts=2, base=0))
            await manager.send(name, 1)
            await trio.testing.wait_all_tasks_blocked()
        await manager.wait_idle()
    first = [("late", 0), ("soon", 0), ("between", 0)]
    assert begun == [*first, ("soon", 2), ("between", 5), ("late", 9)]


async def _load(*, broken: bool) -> dict[str, ServiceStatistics]:
    """Three services under load, one of which may fail all the time."""

    async def fails(data: int) -> None:
        await trio.sleep(0.25)
        if broken:
            raise RuntimeError("always")

    async with opened(takes(0.5)) as manager:
        manager.service("one", Worker(0.25), concurrency=2)
        manager.service("failing", fails, concurrency=2, retry=RetryPolicy(attempts=2, base=0))
        manager.service("other", Worker(0.5))
        for n in range(40):
            for name in ("one", "failing", "other"):
                manager.send_nowait(name, n)
            await trio.sleep(0.125)
        await manager.wait_idle()
        return dict(manager.statistics().services)


@simulated
async def test_a_service_that_fails_fails_alone() -> None:
    sound, broken = await _load(broken=False), await _load(broken=True)
    assert (broken["failing"].dead, broken["failing"].done) == (40, 0)
    for name in ("one", "other"):
        for field in ("received", "done", "errors", "dead", "wait", "processing_time"):
            assert getattr(broken[name], field) == getattr(sound[name], field), (name, field)


@simulated
async def test_a_stray_cancellation_is_a_failure_of_its_item_alone() -> None:
    stray: list[BaseException] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as error:
            stray.append(error)
            raise

    async def work(data: int) -> int:
        await trio.lowlevel.checkpoint()
        if data == 0:
            raise stray[0]
        return data

    async with opened(echo) as manager:
        manager.service("work", work, retry=ONCE)
        with pytest.raises(ccm.HandlerFailed, match="nobody cancelled it"):
            await manager.call("work", 0)
        assert await manager.call("work", 1) == 1


@simulated
async def test_what_is_no_exception_ends_the_manager() -> None:
    async def work(data: int) -> None:
        await trio.lowlevel.checkpoint()
        raise KeyboardInterrupt

    managers: list[ccm.ConversationManager] = []

    async def program() -> None:
        async with opened(echo) as manager:
            managers.append(manager)
            manager.service("work", work)
            manager.send_nowait("work", 1)
            manager.send_nowait("work", 2)
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        await program()
    assert [letter.data for letter in managers[0].dead_letters()] == [1]
    figures = managers[0].statistics().services["work"]
    assert (figures.received, figures.dead, figures.cancelled) == (2, 1, 1)


# -- dead letters ----------------------------------------------------------------------------------------


@simulated
async def test_a_message_and_an_item_are_handed_in_again() -> None:
    sound = False

    async def handler(turn: ccm.Turn) -> str:
        await trio.lowlevel.checkpoint()
        if not sound:
            raise ccm.Permanent
        return "sound"

    async def work(data: str) -> None:
        await trio.lowlevel.checkpoint()
        if not sound:
            raise ccm.Permanent

    async with opened(handler) as manager:
        manager.service("work", work)
        await manager.send("work", "item", source="me", priority=HIGH)
        receipt = await manager.submit(say("message", id="mine", deadline=3.0))
        await receipt.outcome()
        await manager.wait_idle()
        letters = {bool(letter.message): letter for letter in manager.dead_letters()}
        sound = True
        await trio.sleep_until(10)
        again = await manager.replay(letters[True].id)
        assert again is not None
        assert isinstance(await again.outcome(), ccm.Replied)
        assert await manager.replay(letters[False].id) is None
        await manager.wait_idle()
        assert manager.dead_letters() == []
        assert manager.statistics().services["work"].done == 1


@simulated
async def test_a_letter_that_cannot_be_handed_in_is_kept_in_its_place() -> None:
    async def work(data: str) -> None:
        await trio.sleep(1)
        raise ccm.Permanent

    async with opened(echo) as manager:
        manager.service("work", work, queue=1)
        for data in "abc":
            await manager.send("work", data)
        await manager.wait_idle()
        ids = [letter.id for letter in manager.dead_letters()]
        manager.send_nowait("work", "runs")
        manager.send_nowait("work", "waits")
        with trio.move_on_after(0.5) as scope:
            await manager.replay(ids[1])
        assert scope.cancelled_caught
        assert [letter.id for letter in manager.dead_letters()] == ids
        assert manager.discard(ids[1]).data == "b"
        with pytest.raises(KeyError, match=rf"no dead letter {ids[1]}; known: {ids[0]}, {ids[2]}"):
            manager.discard(ids[1])
        with pytest.raises(KeyError, match="no dead letter 99"):
            await manager.replay(99)


# -- cycles ----------------------------------------------------------------------------------------------


@simulated
async def test_a_call_that_would_wait_for_ever_is_refused() -> None:
    async with opened(echo) as manager:

        async def ping(data: int) -> Any:
            return await manager.call("pong", data)

        async def pong(data: int) -> Any:
            return await manager.call("ping", data)

        manager.service("ping", ping, retry=ONCE)
        manager.service("pong", pong, retry=ONCE)
        with pytest.raises(ccm.HandlerFailed) as caught:
            await manager.call("ping", 1)
        inner = caught.value.__cause__
        assert isinstance(inner, ccm.HandlerFailed)
        assert isinstance(inner.__cause__, ccm.ServiceCycle)
        assert inner.__cause__.services == ("pong", "ping", "pong")
        assert "'pong' -> 'ping' -> 'pong'" in str(inner.__cause__)


@simulated
async def test_a_recursion_that_has_instances_is_none() -> None:
    async with opened(echo) as manager:

        async def count(data: int) -> int:
            if data == 0:
                return 0
            below = await manager.call("count", data - 1)
            assert all(item.waits == [] for item in service._queue.running.values() if item.data == data)
            return 1 + int(below)

        service = manager.service("count", count, concurrency=4, retry=ONCE)
        assert await manager.call("count", 3) == 3
        with pytest.raises(ccm.HandlerFailed):
            await manager.call("count", 4)


@simulated
async def test_two_that_wait_for_each_other_get_on_when_one_is_refused() -> None:
    """Neither call is in the chain of the other; whoever closes the circle is refused and tried again."""
    async with opened(echo) as manager:

        async def first(data: str) -> Any:
            await trio.sleep(1)
            return await manager.call("second", "leaf") if data == "root" else data

        async def second(data: str) -> Any:
            await trio.sleep(1)
            return await manager.call("first", "leaf") if data == "root" else data

        retry = RetryPolicy(attempts=5, base=2)
        manager.service("first", first, retry=retry)
        manager.service("second", second, retry=retry)
        results: list[Any] = []

        async def call(name: str) -> None:
            results.append(await manager.call(name, "root"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, "first")
            nursery.start_soon(call, "second")
        assert results == ["leaf", "leaf"]


@simulated
async def test_a_send_without_room_that_only_its_sender_could_make_is_refused() -> None:
    async with opened(echo) as manager:

        async def breed(data: int) -> None:
            if data == 0:
                for n in (1, 2, 3):
                    await manager.send("breed", n)

        manager.service("breed", breed, queue=2, retry=ONCE)
        await manager.send("breed", 0)
        await manager.wait_idle()
        (letter,) = manager.dead_letters()
        assert (letter.data, letter.error) == (0, "ServiceCycle(('breed', 'breed'))")
        assert manager.statistics().services["breed"].done == 2


@simulated
async def test_a_task_that_outlives_its_item_holds_no_instance() -> None:
    async with opened(echo) as manager, trio.open_nursery() as nursery:
        results: list[Any] = []

        async def later(data: str) -> None:
            await trio.sleep(1)
            results.append(await manager.call("work", "late"))

        async def work(data: str) -> str:
            await trio.lowlevel.checkpoint()
            if data == "spawn":
                nursery.start_soon(later, data)
            return data

        manager.service("work", work)
        await manager.call("work", "spawn")
        await trio.sleep(2)
        assert results == ["late"]
