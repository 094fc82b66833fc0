"""Services on virtual time: order, bounds, retries, isolation, cycles, shutdown, and what is left behind."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

import ccm
from ccm import CRITICAL, HIGH, LOW, NORMAL, RetryPolicy, Service, ServiceStatistics
from ccm.testing import CancelAt, simulate
from tests.manager.kit import echo, opened, say, simulated, takes

ONCE = RetryPolicy(attempts=1)


# Each example is as many runs as the program has steps.
FEW = settings(max_examples=settings().max_examples // 5)


class Worker:
    """Takes `seconds` for each item; notes when it began with which, and how many it does at once."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.begun: list[tuple[float, Any]] = []
        self.cancelled: list[Any] = []
        self.running = self.peak = 0

    async def __call__(self, data: Any) -> Any:
        self.begun.append((trio.current_time(), data))
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await trio.sleep(self.seconds)
        except trio.Cancelled:
            self.cancelled.append(data)
            raise
        finally:
            self.running -= 1
        return f"did {data}"

    @property
    def order(self) -> list[Any]:
        return [data for _, data in self.begun]


# -- sending and calling -----------------------------------------------------------------------------


@simulated
async def test_a_call_returns_what_the_service_returns() -> None:
    async with opened(echo) as manager:
        service = manager.service("work", Worker())
        assert await manager.call("work", 1) == "did 1"
        assert await service.call(2) == "did 2"
        figures = service.statistics()
        assert (figures.received, figures.done, figures.processing_time.count) == (2, 2, 2)
        assert figures.processing_time.mean == 1.0


@simulated
async def test_a_handler_calls_a_service_with_the_urgency_of_its_turn() -> None:
    seen: list[ccm.ServiceItem] = []

    async def work(data: str) -> str:
        await trio.lowlevel.checkpoint()
        seen.append(Service.current())
        return data.upper()

    async def handler(turn: ccm.Turn) -> str:
        return str(await turn.call("work", turn.text))

    async with opened(handler) as manager:
        manager.service("work", work)
        assert str(await manager.ask(say("hello", priority=HIGH))) == "HELLO"
    (item,) = seen
    assert (item.service, item.source, item.priority, item.attempt) == ("work", "chat", HIGH, 1)
    with pytest.raises(RuntimeError, match="no service is at work"):
        Service.current()


@simulated
async def test_urgent_items_come_first_and_each_class_in_order() -> None:
    worker = Worker()
    async with opened(echo) as manager:
        manager.service("work", worker)
        for data, priority in (("first", LOW), ("a", LOW), ("b", NORMAL), ("c", CRITICAL), ("d", NORMAL)):
            await manager.send("work", data, priority=priority)
        await manager.wait_idle()
    assert worker.order == ["first", "c", "b", "d", "a"]


@simulated
async def test_instances_share_the_load_and_no_more_of_them_run() -> None:
    worker = Worker()
    async with opened(echo) as manager:
        manager.service("work", worker, concurrency=3)
        for n in range(7):
            await manager.send("work", n)
        await manager.wait_idle()
        assert trio.current_time() == 3
    assert worker.peak == 3
    assert [at for at, _ in worker.begun] == [0, 0, 0, 1, 1, 1, 2]


@simulated
async def test_a_full_queue_makes_senders_wait_in_order() -> None:
    worker = Worker()
    came: list[tuple[float, str]] = []

    async with opened(echo) as manager, trio.open_nursery() as nursery:
        manager.service("work", worker, queue=1)

        async def send(data: str, priority: ccm.Priority) -> None:
            await manager.send("work", data, priority=priority)
            came.append((trio.current_time(), data))

        for data, priority in (("0", NORMAL), ("1", NORMAL), ("2", LOW), ("3", LOW), ("4", HIGH)):
            nursery.start_soon(send, data, priority)
            await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            manager.send_nowait("work", "too much")
        figures = manager.statistics().services["work"]
        assert (figures.senders, figures.refused, figures.depth) == (3, 1, 4)
        assert figures.is_bottleneck
        assert manager.statistics().bottlenecks == ("work",)
    assert came == [(0, "0"), (0, "1"), (1, "4"), (2, "2"), (3, "3")]
    assert worker.order == ["0", "1", "4", "2", "3"]


@simulated
async def test_an_idle_service_costs_no_task() -> None:
    async with opened(echo) as manager:
        before = trio.lowlevel.current_statistics().tasks_living
        manager.service("work", Worker(), concurrency=5)
        assert trio.lowlevel.current_statistics().tasks_living == before
        for n in range(9):
            manager.send_nowait("work", n)
        assert trio.lowlevel.current_statistics().tasks_living == before + 5
        await manager.wait_idle()
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before
        await trio.sleep(7)
        figures = manager.statistics().services["work"]
        assert (figures.idle, figures.last_activity) == (7, 2)


@simulated
async def test_a_function_that_never_waits_lets_others_run() -> None:
    async def work(data: int) -> None:
        pass

    ticks = 0
    async with opened(echo) as manager:
        manager.service("work", work, queue=200)
        for n in range(200):
            manager.send_nowait("work", n)
        while manager.statistics().services["work"].done < 200:
            await trio.lowlevel.checkpoint()
            ticks += 1
    assert ticks > 100


# -- failing -------------------------------------------------------------------------------------------


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

    services: list[Service] = []

    async def program() -> None:
        async with opened(echo) as manager:
            services.append(manager.service("work", work))
            manager.send_nowait("work", 1)
            manager.send_nowait("work", 2)
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        await program()
    figures = services[0].statistics()
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
            return 0 if data == 0 else 1 + await manager.call("count", data - 1)

        manager.service("count", count, concurrency=4, retry=ONCE)
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


# -- cancelling --------------------------------------------------------------------------------------------


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

    _at_every_step(program, seed)


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

    _at_every_step(program, seed)


async def _send(service: Service, data: int) -> None:
    with suppress(trio.ClosedResourceError):
        await service.send(data)


def _at_every_step(program: Callable[[trio.CancelScope], Awaitable[None]], seed: int) -> None:
    for n in itertools.count(1):
        cancel = CancelAt(n, scope := trio.CancelScope())
        simulate(program, scope, instruments=[cancel], seed=seed)
        if not cancel.fired:
            break


# -- the end ---------------------------------------------------------------------------------------------


@simulated
async def test_services_outlive_the_turns_that_use_them() -> None:
    worker = Worker(2)

    async def handler(turn: ccm.Turn) -> str:
        await trio.sleep(1)
        await turn.call("work", "called")
        manager.send_nowait("work", "sent")
        return "done"

    async with opened(handler) as manager:
        manager.service("work", worker)
        receipt = await manager.submit(say())
    assert isinstance(await receipt.outcome(), ccm.Replied)
    assert worker.order == ["called", "sent"]
    assert trio.current_time() == 5
    assert manager.statistics().services["work"].done == 2


@simulated
async def test_what_is_left_at_the_end_of_the_drain_is_cancelled_and_counted() -> None:
    worker = Worker(4)
    errors: list[BaseException] = []

    async def caller(data: str) -> None:
        try:
            await manager.call("work", data)
        except trio.ClosedResourceError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        async with opened(takes(3), drain=5) as manager:
            manager.service("work", worker, queue=2)
            for data in "abcd":
                nursery.start_soon(caller, data)
                await trio.testing.wait_all_tasks_blocked()
            await manager.submit(say())
        assert trio.current_time() == 5  # not 3 + 5: services have what is left of the drain's time
    figures = manager.statistics().services["work"]
    # The second one, which ran at the deadline, and the two that waited.
    assert (figures.received, figures.done, figures.cancelled) == (4, 1, 3)
    assert len(errors) == 3
    assert worker.cancelled == ["b"]
    with pytest.raises(trio.ClosedResourceError):
        await manager.send("work", "too late")


@simulated
async def test_while_it_closes_only_services_may_send() -> None:
    outside: list[BaseException] = []
    done: list[int] = []

    async def work(data: int) -> None:
        await trio.sleep(1)
        done.append(data)
        if data < 3:
            await manager.send("work", data + 1)

    async def outsider() -> None:
        await trio.sleep(1.5)
        try:
            await manager.send("work", 99)
        except trio.ClosedResourceError as error:
            outside.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(outsider)
        async with opened(echo) as manager:
            manager.service("work", work)
            await manager.send("work", 1)
    assert done == [1, 2, 3]
    assert len(outside) == 1


@simulated
async def test_items_that_wait_to_be_tried_again_are_waited_for_and_then_given_up() -> None:
    async def work(data: str) -> None:
        await trio.lowlevel.checkpoint()
        raise ccm.Busy(retry_after=2 if data == "soon" else 60)

    async with opened(echo, drain=5) as manager:
        service = manager.service("work", work)
        manager.send_nowait("work", "soon")
        manager.send_nowait("work", "late")
    assert trio.current_time() == 5
    assert service.statistics().cancelled == 2
    assert service.statistics().errors == 4


@simulated
async def test_wait_idle_waits_for_services_and_the_turns_they_begin() -> None:
    async def work(data: str) -> None:
        await trio.sleep(1)
        await manager.submit(say(data))

    async with opened(takes(1)) as manager:
        manager.service("work", work)
        await manager.send("work", "hello")
        await manager.wait_idle()
        assert trio.current_time() == 2
        assert manager.statistics().outcomes["replied"] == 1


# -- misuse ------------------------------------------------------------------------------------------------


@simulated
async def test_names_are_unique_and_known() -> None:
    async with opened(echo) as manager:
        manager.service("one", Worker())
        manager.service("two", Worker())
        with pytest.raises(ValueError, match="there is a service 'one' already"):
            manager.service("one", Worker())
        for use in (manager.send("three", 1), manager.call("three", 1)):
            with pytest.raises(KeyError, match="no service 'three'; known: 'one', 'two'"):
                await use
        with pytest.raises(KeyError, match="three"):
            manager.send_nowait("three", 1)


@pytest.mark.parametrize(
    "arguments",
    [{"concurrency": 0}, {"concurrency": 1.0}, {"queue": 0}, {"retry": 3}, {"name": ""}, {"fn": print}],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any]) -> None:
    async def program() -> None:
        async with opened(echo) as manager:
            given: dict[str, Any] = {"name": "work", "fn": Worker()} | arguments
            with pytest.raises((TypeError, ValueError), match=next(iter(arguments))):
                manager.service(**given)
            assert manager.statistics().services == {}

    simulate(program)


@simulated
async def test_bad_items_are_refused_and_change_nothing() -> None:
    async with opened(echo) as manager:
        manager.service("work", Worker())
        with pytest.raises(ValueError, match="priority"):
            await manager.send("work", 1, priority=7)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="source"):
            await manager.send("work", 1, source=None)  # type: ignore[arg-type]
        assert manager.statistics().services["work"].received == 0
